// What users get wrong: one clear line each, exit code 2, nothing half-written.
#include "e2e.h"
#include "fairway/data/shard.h"

#include <sys/resource.h>

#include <fstream>

namespace fairway::test {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

void write(const fs::path& path, std::string_view text) { base::write_file(path, text); }

/// Shards of 1,024-token text, as `fairway data build` writes them, and one without a manifest.
void write_shards(const Folder& folder) {
  const auto text = base::read_text_file(kDemo);
  write(folder / "a.txt", std::string_view(text).substr(0, 40'000));
  json_of(folder, {"data", "build", "a.txt", "--tokenizer", kPublished, "--out", "shards", "--split-on",
                   "blank-line", "--val-every", "5"});
  fs::create_directory(folder / "bare");
  fs::copy_file(folder / "shards/fineweb_train_000000.bin", folder / "bare/x_000000.bin");
}

Outcome train_on(const Folder& folder, const std::string& shards, const Arguments& more = {}) {
  Arguments all = {"--set", "model.vocab_size=1024",        "--set", "data.tokenizer=" + kPublished,
                   "--set", "data.train=['" + shards + "']"};
  all.insert(all.end(), more.begin(), more.end());
  const auto said = fairway(folder, quick({"train", "--out", "x"}, all));
  fs::remove_all(folder / "x");
  return said;
}

void change(const fs::path& file, std::streamoff at, std::string_view bytes) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(at);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

TEST(BadInput, Shards) {
  Folder folder;
  write_shards(folder);
  const auto bare = folder / "bare/x_000000.bin";
  ASSERT_EQ(train_on(folder, "bare/x_*.bin").code, 0) << "shards without a manifest are fine";
  expect_input_error(train_on(folder, "none/x_*.bin"), "none/x_*.bin");
  expect_input_error(fairway(folder, quick({"run", "--out", "x"}, {"--set", "model.vocab_size=1024", "--set",
                                                                   "data.tokenizer=" + kPublished, "--set",
                                                                   "data.train=['bare/x_*.bin']"})),
                     "data.validation is not set");
  EXPECT_EQ(train_on(folder, "bare/x_*.bin").code, 0) << "what stopped at bad input has not used the folder";

  const auto good = base::read_file(bare);
  fs::resize_file(bare, good.size() - 7);
  expect_input_error(train_on(folder, "bare/x_*.bin"), "x_000000.bin");
  fs::resize_file(bare, 100);
  expect_input_error(train_on(folder, "bare/x_*.bin"), "x_000000.bin");
  base::write_file(bare, good);
  change(bare, 0, "\x01");
  expect_input_error(train_on(folder, "bare/x_*.bin"), "magic");
  base::write_file(bare, good);
  change(bare, 1024 + 20, "\xff\xff");
  expect_input_error(train_on(folder, "bare/x_*.bin"), "65535");

  expect_input_error(train_on(folder, "shards/*_train_*.bin",
                              {"--set", "model.vocab_size=4096", "--set",
                               "data.tokenizer=" FAIRWAY_DATA_DIR "/tokenizers/fineweb_4096_bpe.model"}),
                     "shards were made with tokenizer");
  expect_input_error(train_on(folder, "shards/*_train_*.bin", {"--set", "data.tokenizer="}),
                     "data.tokenizer");
}

TEST(BadInput, Texts) {
  Folder folder;
  auto with_text = [&](const std::string& file) {
    const auto said = fairway(folder, quick({"run", "--out", "x"}, {"--set", "data.train=['" + file + "']"}));
    fs::remove_all(folder / "x");
    return said;
  };
  expect_input_error(with_text("none.txt"), "none.txt");
  write(folder / "bad.txt", "fine so far \xc3\x28 and on\n");
  expect_input_error(with_text("bad.txt"), "UTF-8");
  write(folder / "empty.txt", "");
  expect_input_error(with_text("empty.txt"), "empty.txt");
  write(folder / "spaces.txt", "\n\n\n");
  expect_input_error(with_text("spaces.txt"), "spaces.txt");
  write(folder / "x.pdf", "%PDF");
  expect_input_error(with_text("x.pdf"), "x.pdf");
  write(folder / "cut.txt.gz", std::string_view("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\x48", 12));
  expect_input_error(with_text("cut.txt.gz"), "cut.txt.gz");
  write(folder / "bad.jsonl", "{\"text\": \"one\"}\n{\"txt\": \"two\"}\n");
  expect_input_error(with_text("bad.jsonl"), "line 2");
}

TEST(BadInput, Recipes) {
  Folder folder;
  auto with = [&](const std::string& set) { return fairway(folder, {"run", "--out", "x", "--set", set}); };
  expect_input_error(with("model.layres=3"), "did you mean 'model.layers'");
  expect_input_error(with("model.layers=\"three\""), "model.layers");
  expect_input_error(with("model.width=-64"), "model.width = -64");
  expect_input_error(with("train.steps=-1"), "train.steps");
  expect_input_error(with("model.heads=5"), "model.heads");
  expect_input_error(with("train.batch_tokens=1000"), "train.batch_tokens");
  expect_input_error(with("data.tokenizer=none.model"), "none.model");
  write(folder / "broken.toml", "[model\nwidth = 64\n");
  expect_input_error(fairway(folder, {"run", "broken.toml", "--out", "x"}), "broken.toml:1:");
  expect_input_error(fairway(folder, {"run", "--nonsense"}), "--nonsense");
}

TEST(BadInput, OutputFoldersThatCannotBeWritten) {
  Folder folder;
  write(folder / "file", "not a folder");
  expect_input_error(fairway(folder, quick({"run", "--out", "file"})), "file");
  expect_input_error(fairway(folder, quick({"run", "--out", "file/below"})), "file/below");
  expect_input_error(fairway(folder, quick({"run", "--out", "/proc/fairway-run"})), "/proc/fairway-run");
}

TEST(BadInput, EveryDamagedByteOfAnArtifactIsSeen) {
  Folder folder;
  json_of(folder, quick({"run", "--out", "x"}));
  const auto good = artifact_of(folder, "x");
  const auto damaged = folder / "d.fairway";
  // The whole header and tail, and points all over the rest; unit tests flip every byte.
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < 64; i += 5) places.push_back(i);
  for (std::size_t i = 64; i < good.size(); i += good.size() / 40) places.push_back(i);
  places.push_back(good.size() - 1);
  for (const auto at : places) {
    auto bytes = good;
    bytes[at] ^= std::byte{1};
    base::write_file(damaged, bytes);
    expect_input_error(fairway(folder, {"inspect", "d.fairway"}), "d.fairway");
    if (::testing::Test::HasFailure()) FAIL() << "byte " << at << " of " << good.size();
  }
  base::write_file(damaged, std::span(good).first(good.size() / 2));
  expect_input_error(fairway(folder, {"score", "d.fairway", "--text", kDemo}), "d.fairway");
  expect_input_error(fairway(folder, {"generate", "d.fairway"}), "d.fairway");
  auto longer = good;
  longer.push_back(std::byte{0});
  base::write_file(damaged, longer);
  expect_input_error(fairway(folder, {"inspect", "d.fairway"}), "d.fairway");

  base::write_file(folder / "nul.txt", std::string_view("\xff"));
  expect_input_error(fairway(folder, {"score", "x/model.fairway", "--text", "nul.txt"}), "UTF-8");
  expect_input_error(fairway(folder, {"score", "x/model.fairway", "--text", kDemo, "--stride", "4096"}),
                     "--stride 4096");
  write(folder / "one.txt", "a");
  const auto tiny = fairway(folder, {"score", "x/model.fairway", "--text", "one.txt", "--json"});
  EXPECT_EQ(tiny.code, 0) << tiny.err << ": a text of one byte has a score too";
}

TEST(BadInput, LibrariesInTheCurrentFolderAreNotLoaded) {
  Folder folder;
  for (const auto* name : {"libdnnl.so.2", "libdnnl.so.3", "libzstd.so.1", "libz.so.1", "libgomp.so.1"})
    write(folder / name, "not a library");
  const auto said = fairway(folder, {"--version"});
  EXPECT_EQ(said.code, 0) << said.err;
}

TEST(BadInput, AFullDiskIsAFailureInOneLine) {
  Folder folder;
  // A limit on file size stands for the full disk: writes fail in the middle of a file.
  const auto child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {100'000, 100'000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto said = fairway(folder, quick({"run", "--out", "x"}));
    const bool good = said.code == 1 && said.err.find("fairway: error: ") != std::string::npos &&
                      said.err.find("checkpoint.fwck") != std::string::npos;
    if (!good) std::fprintf(stderr, "exit code %d: %s\n", said.code, said.err.c_str());
    std::_Exit(good ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  for (const auto& entry : fs::directory_iterator(folder / "x"))
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr("checkpoint")))
        << "nothing half-written";
}

}  // namespace
}  // namespace fairway::test
