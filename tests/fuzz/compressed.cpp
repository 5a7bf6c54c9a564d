// Document files: the first byte picks kind, compression, split and what to do with bad lines, the rest is
// the file.
#include <array>
#include <cstdint>
#include <string>

#include "fairway/base/error.h"
#include "fairway/data/documents.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fairway;
  if (size == 0) return 0;
  static const std::array<std::string, 8> names = {"f.jsonl", "f.jsonl.gz", "f.jsonl.xz", "f.jsonl.zst",
                                                   "f.txt",   "f.txt.gz",   "f.txt.xz",   "f.txt.zst"};
  data::ReaderOptions options;
  options.split_on = static_cast<data::SplitOn>(data[0] / 8 % 3);
  options.skip_bad_lines = data[0] >= 128;
  options.max_document_bytes = 1 << 20;
  try {
    data::DocumentReader reader({reinterpret_cast<const std::byte*>(data) + 1, size - 1}, names[data[0] % 8],
                                options);
    int left = 1000;
    for (data::Document document; left > 0 && reader.next(document);) --left;
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::input) throw;
  }
  return 0;
}
