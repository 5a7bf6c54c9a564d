// From texts and shards to tokens.
#include "fairway/data/build.h"
#include "fairway/data/shard.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace fairway::pipeline::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kDemo = FAIRWAY_DATA_DIR "/demo/demo.txt";
const std::string kPublished = FAIRWAY_DATA_DIR "/tokenizers/fineweb_1024_bpe.model";

std::vector<std::uint16_t> tokens_of(const data::TokenStream& stream) {
  std::vector<std::uint16_t> tokens(stream.size());
  stream.read(0, tokens);
  return tokens;
}

TEST(Corpus, SplitsTheTextIntoTrainingAndHeldOut) {
  Engine engine(with_threads(2));
  const auto recipe = small_recipe();
  const auto c = prepare_corpus(recipe, engine);
  const auto manifest = nlohmann::json::parse(c.manifest);
  const auto documents = manifest["sources"][0]["documents"].get<std::size_t>();
  EXPECT_EQ(manifest["train"]["documents"].get<std::size_t>() + documents / 20, documents);
  EXPECT_EQ(c.validation.documents.size(), documents / 20);
  EXPECT_EQ(c.train_text.size() + c.validation.text.size(), manifest["sources"][0]["text_bytes"]);
  EXPECT_GE(c.train_text.size() + c.validation.text.size(), 120'000u);
  EXPECT_LT(c.train_text.size() + c.validation.text.size(), 130'000u) << "data.train_bytes is the limit";
  EXPECT_EQ(c.tokenizer.vocab_size(), 320);
}

TEST(Corpus, TokensStandForTheTextExactly) {
  Engine engine(with_threads(2));
  const auto c = prepare_corpus(small_recipe(), engine);
  ASSERT_TRUE(c.tokenizer.lossless());
  EXPECT_EQ(c.tokenizer.decode(std::span<const std::uint16_t>(c.validation.tokens)), c.validation.text);
  const auto train = tokens_of(c.train);
  EXPECT_EQ(c.tokenizer.decode(std::span<const std::uint16_t>(train)), c.train_text);
  EXPECT_EQ(c.validation.round_trip.changed_documents, 0u);
  for (const auto& d : c.validation.documents)
    EXPECT_EQ(c.validation.tokens[static_cast<std::size_t>(d.first_target)], c.tokenizer.bos_id());
}

TEST(Corpus, AThreadMoreChangesNothing) {
  Engine one(with_threads(1)), three(with_threads(3));
  const auto a = prepare_corpus(small_recipe(), one), b = prepare_corpus(small_recipe(), three);
  EXPECT_EQ(a.manifest, b.manifest);
  EXPECT_EQ(a.validation.tokens, b.validation.tokens);
  EXPECT_EQ(tokens_of(a.train), tokens_of(b.train));
}

TEST(Corpus, ARecipeWithoutTextsSaysWhatToAdd) {
  Engine engine(with_threads(1));
  auto recipe = small_recipe();
  recipe.data = {};
  EXPECT_THAT(error_of(base::ErrorKind::input, [&] { prepare_corpus(recipe, engine); }),
              StartsWith("the recipe has no texts to train on: add a table [data] with train = "));
}

TEST(Corpus, SkippedLinesAreCountedAndSaid) {
  const Folder folder;
  std::string lines = "no json\n";
  for (int i = 0; i < 40; ++i)
    lines += fmt::format("{{\"text\": \"The river ran past the mole, day {}, and sang.\"}}\n", i);
  base::write_file(folder / "a.ndjson", std::string_view(lines));
  Said said;
  Engine engine(with_threads(1, &said));
  auto recipe = small_recipe({"data.train=" + folder("a.ndjson"), "data.tokenizer=" + kPublished,
                              "model.vocab_size=1024", "data.split_on=file"});
  EXPECT_THAT(error_of(base::ErrorKind::input, [&] { prepare_corpus(recipe, engine); }),
              HasSubstr("a.ndjson: line 1: bad JSON"));
  recipe.data.reader.skip_bad_lines = true;
  const auto manifest = nlohmann::json::parse(prepare_corpus(recipe, engine).manifest);
  EXPECT_EQ(manifest["sources"][0]["skipped_lines"], 1);
  EXPECT_EQ(manifest["sources"][0]["documents"], 40);
  ASSERT_EQ(said.warnings.size(), 1u);
  EXPECT_THAT(said.warnings[0], HasSubstr("1 bad line skipped; the first: "));
}

/// The demo's documents as shards, with the tokenizer beside them.
struct Shards {
  explicit Shards(const Folder& folder, int val_every = 20) : tokenizer(text::Tokenizer::load(kPublished)) {
    Engine engine(with_threads(2));
    data::BuildOptions options;
    options.out = folder / "shards";
    options.shard_tokens = 100'000;
    options.hold_out.every = static_cast<std::uint64_t>(val_every);
    options.reader.split_on = data::SplitOn::blank_line;
    options.reader.min_document_bytes = 2000;
    manifest = data::build_shards({kDemo}, tokenizer, options, engine.pool(), engine.progress());
    train = folder("shards/fineweb_train_*.bin");
    val = folder("shards/fineweb_val_*.bin");
  }
  text::Tokenizer tokenizer;
  data::Manifest manifest;
  std::string train, val;
};

Recipe shard_recipe(const Shards& shards) {
  auto r = small_recipe({"model.vocab_size=1024", "data.train_bytes=0"});
  r.data.train = {shards.train};
  r.data.validation = {shards.val};
  r.data.tokenizer = kPublished;
  return r;
}

TEST(Corpus, ShardsGiveTheTokensOfTheTexts) {
  Folder folder;
  Shards shards(folder);
  Engine engine(with_threads(2));
  const auto from_shards = prepare_corpus(shard_recipe(shards), engine);
  auto recipe = small_recipe({"model.vocab_size=1024", "data.train_bytes=0", "data.tokenizer=" + kPublished});
  recipe.data.train = {kDemo};
  const auto from_text = prepare_corpus(recipe, engine);
  EXPECT_GT(from_shards.train.shard_count(), 2u);
  EXPECT_EQ(tokens_of(from_shards.train), tokens_of(from_text.train));
  EXPECT_EQ(from_shards.validation.tokens, from_text.validation.tokens);
}

TEST(Corpus, APublishedTokenizerSaysWhatItChanges) {
  Engine engine(with_threads(2));
  auto recipe = small_recipe({"model.vocab_size=1024", "data.tokenizer=" + kPublished});
  const auto c = prepare_corpus(recipe, engine);
  const auto& r = c.validation.round_trip;
  EXPECT_EQ(r.documents, c.validation.documents.size());
  EXPECT_GT(r.changed_documents, 0u) << "line breaks become spaces";
  EXPECT_GT(r.changed_bytes, 0u);
  EXPECT_EQ(r.bytes, c.validation.text.size());
}

/// The notes on text that is read twice; the warnings are the same.
std::vector<std::string> notes_of(const Recipe& recipe) {
  Said said;
  Engine engine(with_threads(1, &said));
  const auto manifest = nlohmann::json::parse(prepare_corpus(recipe, engine).manifest);
  const auto notes = manifest["notes"].get<std::vector<std::string>>();
  EXPECT_EQ(said.warnings, notes);
  return notes;
}

TEST(Corpus, TextThatIsReadTwiceIsSaid) {
  Folder folder;
  const auto write = [&](const char* name, std::string_view text) { base::write_file(folder / name, text); };
  write("a.txt", "One line of it.\nAnother line.\n");
  write("copy.txt", "One line of it.\nAnother line.\n");
  write("v.txt", "Held out.\nAnother line.\n");
  std::filesystem::create_symlink("a.txt", folder / "link.txt");
  auto r = small_recipe({"data.split_on=line", "data.min_document_bytes=0", "model.vocab_size=1024",
                         "data.tokenizer=" + kPublished});
  const auto with = [&](std::vector<std::string> train, std::vector<std::string> validation) {
    for (auto* list : {&train, &validation})
      for (auto& name : *list) name = folder(name);
    r.data.train = train;
    r.data.validation = validation;
    return notes_of(r);
  };
  EXPECT_THAT(with({"a.txt"}, {"a.txt"}),
              ElementsAre(HasSubstr("trained and validated on the same text: 2 of 2 validation documents")));
  EXPECT_THAT(with({"a.txt"}, {"copy.txt"}),
              ElementsAre(HasSubstr("2 of 2 validation documents (28 of 28 bytes)")));
  EXPECT_THAT(with({"a.txt"}, {"v.txt"}),
              ElementsAre(HasSubstr("1 of 2 validation documents (13 of 22 bytes)")));
  write("v.txt", "Held out.\n");
  EXPECT_THAT(with({"a.txt"}, {"v.txt"}), ElementsAre());
  EXPECT_THAT(with({"a.txt", "./a.txt"}, {"v.txt"}),
              ElementsAre("data.train: one file is read twice: a.txt"));
  EXPECT_THAT(with({"[al]*.txt"}, {"v.txt"}),
              ElementsAre("data.train: one file is read twice: a.txt and link.txt"));
  EXPECT_THAT(with({"a.txt", "copy.txt"}, {"v.txt"}),
              ElementsAre("data.train: the same text is read twice: a.txt and copy.txt"));
  EXPECT_THAT(with({"a.txt"}, {"v.txt", "v.txt"}),
              ElementsAre("data.validation: one file is read twice: v.txt"));
}

TEST(Corpus, ShardsThatAreReadTwiceAreSaid) {
  Folder folder;
  Shards shards(folder);
  auto r = shard_recipe(shards);
  EXPECT_THAT(notes_of(r), ElementsAre());
  std::filesystem::create_symlink("fineweb_val_000000.bin", folder / "shards/fineweb_train_9.bin");
  EXPECT_THAT(notes_of(r), ElementsAre(AllOf(HasSubstr("trained and validated on the same text"),
                                             HasSubstr("fineweb_train_9.bin and fineweb_val_000000.bin"))));
  std::filesystem::copy(folder / "shards/fineweb_train_000000.bin", folder / "shards/fineweb_train_8.bin");
  EXPECT_THAT(notes_of(r),
              ::testing::Contains(HasSubstr("the same text is read twice: fineweb_train_000000.bin "
                                            "and fineweb_train_8.bin")));
}

TEST(Corpus, NamesThatAreNotUtf8AreReadThroughAPattern) {
  Folder folder;
  base::write_file(folder / "caf\xe9.txt", std::string_view("One line of it.\nAnother line.\n"));
  auto r = small_recipe({"data.split_on=line", "data.min_document_bytes=0", "model.vocab_size=1024",
                         "data.tokenizer=" + kPublished, "data.holdout_every=2"});
  r.data.train = {folder("*.txt")};
  Engine engine(with_threads(1));
  const auto manifest = nlohmann::json::parse(prepare_corpus(r, engine).manifest);
  EXPECT_EQ(manifest["sources"][0]["file"], "caf\\xE9.txt");
}

TEST(Corpus, MistakesAreNamed) {
  Folder folder;
  Shards shards(folder);
  Engine engine(with_threads(1));
  auto said = [&](const Recipe& recipe) { return input_error([&] { prepare_corpus(recipe, engine); }); };

  auto r = small_recipe();
  r.data.train = {folder("none.txt")};
  EXPECT_THAT(said(r), AllOf(StartsWith(folder("none.txt")), HasSubstr("no such file")));
  r.data.train = {kDemo, shards.train};
  EXPECT_THAT(said(r), HasSubstr("mixed"));

  base::write_file(folder / "empty.txt", std::string_view(""));
  r.data.train = {folder("empty.txt")};
  EXPECT_THAT(said(r), AllOf(HasSubstr("empty.txt"), HasSubstr("no documents")));
  base::write_file(folder / "one.txt", std::string_view("Only one document."));
  r.data.train = {folder("one.txt")};
  EXPECT_THAT(said(r), HasSubstr("data.holdout_every = 20 holds none of the 1 document(s) back"));
  base::write_file(folder / "bad.txt", std::string_view("Good text, then \xff\xfe and more."));
  r.data.train = {folder("bad.txt")};
  EXPECT_THAT(said(r), AllOf(HasSubstr("bad.txt"), HasSubstr("UTF-8")));

  r = shard_recipe(shards);
  r.model.vocab_size = 320;
  EXPECT_THAT(said(r), AllOf(HasSubstr("1024 pieces"), HasSubstr("model.vocab_size = 320")));
  r = shard_recipe(shards);
  r.data.tokenizer.clear();
  EXPECT_THAT(said(r), HasSubstr("data.tokenizer is not set"));
  r = shard_recipe(shards);
  r.data.train.push_back(shards.val);
  EXPECT_THAT(said(r), HasSubstr("one pattern of shards"));
}

TEST(Corpus, ShardsOfAnotherTokenizerOrVocabularyAreRefused) {
  Folder folder;
  Shards shards(folder);
  Engine engine(with_threads(1));
  auto said = [&](const Recipe& recipe) { return input_error([&] { prepare_corpus(recipe, engine); }); };
  auto r = shard_recipe(shards);
  r.data.tokenizer = FAIRWAY_DATA_DIR "/tokenizers/fineweb_4096_bpe.model";
  r.model.vocab_size = 4096;
  EXPECT_THAT(said(r),
              AllOf(HasSubstr("fineweb_train_000000.bin"), HasSubstr("shards were made with tokenizer")));

  // Without a manifest (official shards) the ids themselves must fit.
  std::filesystem::create_directory(folder / "bare");
  data::ShardWriter writer(folder / "bare/x_train_000000.bin");
  const std::vector<std::uint16_t> ids = {1, 500, 1023, 1024, 7};
  writer.write(ids);
  writer.finish();
  r = shard_recipe(shards);
  r.data.train = {folder("bare/x_train_*.bin")};
  EXPECT_THAT(said(r), AllOf(HasSubstr("x_train_000000.bin"), HasSubstr("1024")));
}

}  // namespace
}  // namespace fairway::pipeline::testing
