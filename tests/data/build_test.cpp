#include "fairway/data/build.h"

#include <gmock/gmock.h>

#include "fairway/base/hash.h"
#include "fairway/data/loader.h"
#include "fairway/text/train.h"
#include "support.h"

namespace fairway::data {
namespace {

using testing::DataFolder;
using testing::demo_text;
using ::testing::HasSubstr;
using testing::input_error;
using testing::sp1024;

ReaderOptions paragraphs() {
  ReaderOptions options;
  options.split_on = SplitOn::blank_line;
  return options;
}

Manifest build(const std::vector<std::filesystem::path>& files, const BuildOptions& options, int threads = 2,
               std::stop_token stop = {}) {
  base::ThreadPool pool(threads);
  base::SilentProgress silent;
  return build_shards(files, sp1024(), options, pool, silent, stop);
}

// What the shards must hold, computed document by document.
std::vector<std::uint16_t> expected_tokens(const std::vector<Document>& documents,
                                           const std::function<bool(std::size_t)>& take) {
  std::vector<std::uint16_t> tokens;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    if (!take(i)) continue;
    tokens.push_back(1);
    sp1024().encode(documents[i].text, tokens);
  }
  return tokens;
}

TEST(Build, ShardsHoldEveryDocumentOnce) {
  const DataFolder folder;
  const auto file = folder.write("demo.txt", demo_text().substr(0, 300'000));
  const auto documents = read_documents({file}, paragraphs());
  ASSERT_GT(documents.size(), 300u);
  BuildOptions options;
  options.out = folder / "shards";
  options.shard_tokens = 30'000;
  options.hold_out.every = 10;
  options.reader = paragraphs();
  const Manifest manifest = build({file}, options);

  const auto train = expected_tokens(documents, [](std::size_t i) { return (i + 1) % 10 != 0; });
  const auto val = expected_tokens(documents, [](std::size_t i) { return (i + 1) % 10 == 0; });
  EXPECT_EQ(read_shards(folder.glob("shards/fineweb_train_*.bin"), 1024, &sp1024()), train);
  EXPECT_EQ(read_shards(folder.glob("shards/fineweb_val_*.bin"), 1024, &sp1024()), val);
  EXPECT_EQ(manifest.train.tokens, train.size());
  EXPECT_EQ(manifest.val.tokens, val.size());
  EXPECT_EQ(manifest.train.documents + manifest.val.documents, documents.size());
  std::uint64_t bytes = 0;
  for (const Document& document : documents) bytes += document.text.size();
  EXPECT_EQ(manifest.train.text_bytes + manifest.val.text_bytes, bytes);
  ASSERT_EQ(manifest.train_shards.size(), (train.size() + 29'999) / 30'000);
  EXPECT_EQ(manifest.train_shards[0].tokens, 30'000u);
  EXPECT_EQ(manifest.train_shards[1].file, "fineweb_train_000001.bin");
  std::uint64_t starts = 0;
  for (const ShardInfo& shard : manifest.train_shards) {
    EXPECT_EQ(shard.hash, base::hex64(base::hash64(base::read_file(folder / ("shards/" + shard.file)))));
    starts += shard.documents;
  }
  EXPECT_EQ(starts, manifest.train.documents);
  EXPECT_EQ(manifest_json(*find_manifest(folder / "shards/fineweb_train_000000.bin")),
            manifest_json(manifest));
}

TEST(Build, ThreadsDoNotChangeTheBytes) {
  const DataFolder folder;
  const auto file = folder.write("demo.txt", demo_text().substr(0, 200'000));
  for (const int threads : {1, 4}) {
    BuildOptions options;
    options.out = folder / std::to_string(threads);
    options.reader = paragraphs();
    options.hold_out.last_percent = 5;
    build({file}, options, threads);
  }
  for (const std::string name : {"manifest.json", "fineweb_train_000000.bin", "fineweb_val_000000.bin"})
    EXPECT_EQ(base::read_text_file(folder / ("1/" + name)), base::read_text_file(folder / ("4/" + name)))
        << name;
}

TEST(Build, HoldsOutTheLastPart) {
  const DataFolder folder;
  std::string lines;
  for (int i = 0; i < 41; ++i) lines += "{\"text\": \"document number " + std::to_string(i) + "\"}\n";
  const auto file = folder.write("a.jsonl", lines);
  BuildOptions options;
  options.out = folder / "out";
  options.hold_out.last_percent = 10;  // 4.1 -> 5 documents
  EXPECT_EQ(build({file}, options).val.documents, 5u);
  const auto val = read_shards(folder.glob("out/*_val_*.bin"), 1024);
  EXPECT_EQ(sp1024().decode(std::span(val).first(sp1024().encode("document number 36").size() + 1)),
            "document number 36");
}

TEST(Build, OneShardPerFile) {
  const DataFolder folder;
  const auto a = folder.write("a.txt", "first file"), b = folder.write("b.txt", "second file, longer");
  BuildOptions options;
  options.out = folder / "out";
  options.prefix = "mix";
  options.shard_per_file = true;
  options.shard_tokens = 3;  // does not cut these
  const Manifest manifest = build({a, b}, options);
  ASSERT_EQ(manifest.train_shards.size(), 2u);
  EXPECT_EQ(sp1024().decode(ShardReader(folder / "out/mix_train_000001.bin").tokens()),
            "second file, longer");
  EXPECT_EQ(manifest.sources[1].name, "b.txt");
  EXPECT_EQ(manifest.sources[1].documents, 1u);
  options.out = folder / "val";
  options.validation_only = true;
  EXPECT_EQ(build({a, b}, options).val_shards.size(), 2u);
}

TEST(Build, InMemoryIsTheSameStream) {
  const DataFolder folder;
  const auto file = folder.write("demo.txt", demo_text().substr(0, 50'000));
  const auto documents = read_documents({file}, paragraphs());
  base::ThreadPool pool(2);
  EXPECT_EQ(tokenize_documents(documents, sp1024(), pool),
            expected_tokens(documents, [](std::size_t) { return true; }));
}

TEST(Build, DocumentsAreCountedByTheTokenizersOwnStart) {
  const DataFolder folder;
  const auto tokenizer = text::Tokenizer::load(FAIRWAY_SOURCE_DIR "/tests/trials/bos_is_3.model");
  ASSERT_EQ(tokenizer.bos_id(), 3);
  BuildOptions options;
  options.out = folder / "out";
  options.reader = paragraphs();
  base::ThreadPool pool(1);
  base::SilentProgress silent;
  const auto file = folder.write("a.txt", "one\n\ntwo\n\nthree\n");
  ASSERT_EQ(build_shards({file}, tokenizer, options, pool, silent).train.documents, 3u);
  const auto path = folder / "out/fineweb_train_000000.bin";
  EXPECT_EQ(count_documents(ShardReader(path)), 3u);

  std::filesystem::copy_file(path, folder / "out/other.bin");
  EXPECT_EQ(count_documents(ShardReader(folder / "out/other.bin")), std::nullopt) << "no manifest lists it";
  std::filesystem::remove(folder / "out/manifest.json");
  EXPECT_EQ(count_documents(ShardReader(path)), std::nullopt);
  EXPECT_EQ(count_documents(ShardReader(path), 3), 3u);
  EXPECT_EQ(count_documents(ShardReader(path), 1), 0u);
}

TEST(Build, SkippedLinesStandInTheManifest) {
  const DataFolder folder;
  const auto a = folder.write("a.jsonl", "{\"text\": \"one\"}\noops\n"), b = folder.write("b.txt", "two");
  BuildOptions options;
  options.out = folder / "out";
  EXPECT_THAT(input_error([&] { build({a, b}, options); }), HasSubstr("a.jsonl: line 2: bad JSON"));
  options.reader.skip_bad_lines = true;
  const auto manifest = build({a, b}, options);
  EXPECT_EQ(manifest.skipped.count, 1u);
  EXPECT_EQ(manifest.sources[0].skipped_lines, 1u);
  EXPECT_EQ(manifest.sources[1].skipped_lines, 0u);
  const auto read = *find_manifest(folder / "out/fineweb_train_000000.bin");
  EXPECT_EQ(manifest_json(read), manifest_json(manifest));
  EXPECT_EQ(read.skipped.count, 1u);
  EXPECT_TRUE(read.options.reader.skip_bad_lines);
  options.out = folder / "none";
  EXPECT_THAT(input_error([&] { build({folder.write("c.jsonl", "oops")}, options); }),
              HasSubstr("c.jsonl: no documents (1 bad line skipped"));
}

TEST(Build, APipeIsNotReadTwice) {
  const DataFolder folder;
  BuildOptions options;
  options.out = folder / "out";
  options.hold_out.last_percent = 10;
  EXPECT_THAT(input_error([&] { build({"-"}, options); }), HasSubstr("a pipe cannot be read twice"));
}

TEST(Build, AnotherTokenizerIsAnError) {
  const DataFolder folder;
  const auto file = folder.write("a.txt", "some text");
  BuildOptions options;
  options.out = folder / "out";
  build({file}, options);
  text::TrainTokenizerOptions small;
  small.vocab_size = 400;
  const auto other = text::train_tokenizer({std::string_view(demo_text()).substr(0, 20'000)}, small);
  EXPECT_THAT(
      input_error([&] { TokenStream::open(folder.glob("out/*.bin"), 1024, &other); }),
      ::testing::AllOf(HasSubstr("shards were made with tokenizer " + base::hex64(sp1024().fingerprint())),
                       HasSubstr("vocabulary 400")));
  EXPECT_NO_THROW(TokenStream::open(folder.glob("out/*.bin"), 1024, &sp1024()));
}

TEST(Build, BadInputLeavesNoShards) {
  const DataFolder folder;
  const auto good = folder.write("a.txt", std::string(6'000'000, 'x'));  // more than one batch
  const auto bad = folder.write("b.txt", "bad \xFF");
  BuildOptions options;
  options.out = folder / "out";
  options.shard_per_file = true;
  EXPECT_THAT(input_error([&] {
                build({good, bad}, options);
              }),
              HasSubstr("b.txt: document 1: not valid UTF-8 at byte 4"));
  EXPECT_TRUE(base::glob(folder.glob("out/*")).empty());

  std::stop_source stop;
  stop.request_stop();
  try {
    build({good}, options, 2, stop.get_token());
    ADD_FAILURE() << "not interrupted";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::interrupted);
  }
  EXPECT_TRUE(base::glob(folder.glob("out/*")).empty());
  const auto small = folder.write("c.txt", "short");
  build({small}, options);
  EXPECT_THAT(input_error([&] { build({small}, options); }), HasSubstr("already holds shards"));
}

TEST(Build, BadOptionsAreErrors) {
  const DataFolder folder;
  const auto file = folder.write("a.txt", "text");
  const auto error = [&](auto change) {
    BuildOptions options;
    options.out = folder / "out";
    change(options);
    return input_error([&] { build({file}, options); });
  };
  EXPECT_THAT(error([](BuildOptions& o) { o.shard_tokens = 0; }), HasSubstr("shards of 0 tokens"));
  EXPECT_THAT(error([](BuildOptions& o) { o.hold_out.last_percent = 100; }), HasSubstr("holding out 100"));
  EXPECT_THAT(error([](BuildOptions& o) { o.hold_out.every = 1; }), HasSubstr("holding out every document"));
  EXPECT_THAT(error([](BuildOptions& o) { o.prefix = "../x"; }), HasSubstr("without '/'"));
  EXPECT_THAT(error([](BuildOptions& o) { o.hold_out.last_percent = 50; }),
              HasSubstr("no documents left to train on"));
  EXPECT_THAT(error([](BuildOptions& o) { o.out = "/proc/fairway"; }), HasSubstr("/proc/fairway"));
}

TEST(Manifest, DamageIsNamed) {
  EXPECT_THAT(input_error([] { parse_manifest("{", "m.json"); }), HasSubstr("m.json: damaged manifest"));
  EXPECT_THAT(input_error([] { parse_manifest("{\"format\": \"x\", \"version\": 1}", "m.json"); }),
              HasSubstr("m.json: not a manifest"));
  const auto whole = manifest_json({});
  EXPECT_NO_THROW(parse_manifest(whole, "m.json"));
  for (const auto* number : {"1e300", "1.5", "-1e10", "4294967296", "\"7\"", "null"}) {
    auto text = whole;
    const std::string key = "\"vocab_size\": ";
    const auto at = text.find(key) + key.size();
    text.replace(at, text.find(',', at) - at, number);
    EXPECT_THAT(input_error([&] { parse_manifest(text, "m.json"); }),
                HasSubstr("'vocab_size' is no whole number in range"))
        << number;
  }
}

}  // namespace
}  // namespace fairway::data
