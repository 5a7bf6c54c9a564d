// Tokenising speed: bench_tokenize MODEL THREADS FILE... (documents as `fairway data build` reads them).
// One JSON line: documents, tokens with one BOS per document, text bytes, seconds of tokenising alone, MB/s,
// and a hash of the ids, to compare encoders.

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "fairway/base/clock.h"
#include "fairway/base/hash.h"
#include "fairway/data/build.h"

int main(int argc, char** argv) try {
  using namespace fairway;
  if (argc < 4) {
    fmt::print(stderr, "usage: {} MODEL THREADS FILE...\n", argv[0]);
    return 2;
  }
  const auto tokenizer = text::Tokenizer::load(argv[1]);
  base::ThreadPool pool(std::stoi(argv[2]));
  std::uint64_t documents = 0, bytes = 0, tokens = 0, hash = 0;
  double seconds = 0;
  for (int i = 3; i < argc; ++i) {
    const auto texts = data::read_documents({argv[i]});
    const base::Stopwatch watch;
    const auto ids = data::tokenize_documents(texts, tokenizer, pool);
    seconds += watch.seconds();
    tokens += ids.size();
    hash = base::hash64(std::as_bytes(std::span(ids)), hash);
    documents += texts.size();
    for (const auto& text : texts) bytes += text.text.size();
  }
  fmt::print(
      "{{\"threads\": {}, \"documents\": {}, \"tokens\": {}, \"bytes\": {}, \"seconds\": {:.3f}, "
      "\"MB_per_s\": {:.2f}, \"xxh3\": \"{}\"}}\n",
      pool.threads(), documents, tokens, bytes, seconds, static_cast<double>(bytes) / 1e6 / seconds,
      base::hex64(hash));
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
