// train, pack, score, inspect, export, train again: each command on what the one before wrote.
#include "e2e.h"
#include "fairway/artifact/safetensors.h"

namespace fairway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// Held-out documents in a file of their own, so that commands can be compared on the same text.
void write_texts(const Folder& folder) {
  const auto text = base::read_text_file(kDemo);
  base::write_file(folder / "train.txt", std::string_view(text).substr(0, 150'000));
  base::write_file(folder / "held.txt", std::string_view(text).substr(600'000, 12'000));
}

Arguments on_files(Arguments command, const Arguments& more = {}) {
  Arguments all = {"--set", "data.train=['train.txt']", "--set", "data.validation=['held.txt']",
                   "--set", "score.tokens=0",           "--set", "data.min_document_bytes=0"};
  all.insert(all.end(), more.begin(), more.end());
  return quick(std::move(command), all);
}

TEST(Chain, SeparateCommandsGiveWhatRunGives) {
  Folder folder;
  write_texts(folder);
  const auto run = json_of(folder, on_files({"run", "--out", "whole"}));
  ASSERT_EQ(fairway(folder, on_files({"train", "--out", "t"})).code, 0);
  json_of(folder, {"pack", "t/checkpoint.fwck", "--out", "t.fairway"});
  EXPECT_EQ(base::read_file(folder / "t.fairway"), artifact_of(folder, "whole"));

  const auto scored = json_of(folder, {"score", "t.fairway", "--text", "held.txt", "--plain"});
  for (const char* kind : {"plain", "sliding"})
    for (const char* key : {"nll", "loss", "tokens", "bytes", "bits_per_byte", "rule", "verdict"})
      EXPECT_EQ(scored[kind][key], run["score"][kind][key]) << kind << " " << key;
  const auto averaged =
      json_of(folder, {"score", "t/checkpoint.fwck", "--text", "held.txt", "--stride", "0"});
  EXPECT_EQ(averaged["plain"]["nll"], run["averaged"]["plain"]["nll"]);
  const auto raw =
      json_of(folder, {"score", "t/checkpoint.fwck", "--text", "held.txt", "--stride", "0", "--raw"});
  EXPECT_EQ(raw["plain"]["nll"], run["raw"]["plain"]["nll"]);

  const auto ledger = json_of(folder, {"inspect", "t.fairway", "--tensors"});
  EXPECT_EQ(ledger["file_bytes"], std::filesystem::file_size(folder / "t.fairway"));
  std::int64_t parts = 0;
  for (const auto& part : ledger["parts"]) parts += part["stored_bytes"].get<std::int64_t>();
  EXPECT_EQ(parts, ledger["file_bytes"]) << "every byte belongs to a part";
  EXPECT_EQ(ledger["limit"], 16'000'000);
}

TEST(Chain, ShardsScoreAsTheTextTheyWereMadeFrom) {
  Folder folder;
  write_texts(folder);
  json_of(folder, {"tokenizer", "train", "train.txt", "--out", "t.model", "--vocab-size", "320"});
  json_of(folder, on_files({"run", "--out", "x"}, {"--set", "data.tokenizer=t.model"}));
  json_of(folder, {"data", "build", "held.txt", "--tokenizer", "t.model", "--out", "shards", "--validation",
                   "--split-on", "blank-line", "--shard-tokens", "2000"});
  const auto text = json_of(folder, {"score", "x/model.fairway", "--text", "held.txt", "--stride", "32"});
  const auto shards =
      json_of(folder, {"score", "x/model.fairway", "--shards", "shards/*_val_*.bin", "--stride", "32"});
  for (const char* key : {"nll", "tokens", "bytes"})
    EXPECT_EQ(text["sliding"][key], shards["sliding"][key]) << key;
  expect_input_error(fairway(folder, {"score", "x/model.fairway", "--shards", "none_*.bin"}), "none_*.bin");

  // Training from shards sees the same stream as training from their text.
  json_of(folder, {"data", "build", "train.txt", "--tokenizer", "t.model", "--out", "tokens", "--split-on",
                   "blank-line", "--skip-empty"});
  auto from_shards = on_files({"train", "--out", "y"}, {"--set", "data.tokenizer=t.model", "--set",
                                                        "data.train=['tokens/*_train_*.bin']"});
  ASSERT_EQ(json_of(folder, from_shards)["train"]["steps"], 8);
  json_of(folder, {"export", "y/checkpoint.fwck", "--out", "y.safetensors"});
  json_of(folder, {"export", "x/checkpoint.fwck", "--out", "x.safetensors"});
  const auto a = artifact::SafeTensors::open(folder / "x.safetensors"),
             b = artifact::SafeTensors::open(folder / "y.safetensors");
  EXPECT_EQ(a.floats("tok_emb.weight"), b.floats("tok_emb.weight"));
}

TEST(Chain, SafetensorsGoOutAndInExactly) {
  Folder folder;
  json_of(folder, quick({"train", "--out", "x"}));
  json_of(folder, {"export", "x/checkpoint.fwck", "--raw", "--out", "x.safetensors"});
  // Training that does nothing gives the imported weights back.
  json_of(folder, quick({"train", "--out", "y"},
                        {"--set", "train.init=x.safetensors", "--set", "train.steps=1", "--set",
                         "optim.matrix_lr=0", "--set", "optim.table_lr=0", "--set", "optim.scalar_lr=0"}));
  json_of(folder, {"export", "y/checkpoint.fwck", "--raw", "--out", "y.safetensors"});
  const auto a = artifact::SafeTensors::open(folder / "x.safetensors"),
             b = artifact::SafeTensors::open(folder / "y.safetensors");
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const auto& t : a.tensors()) EXPECT_EQ(a.floats(t.name), b.floats(t.name)) << t.name;
  EXPECT_EQ(json_of(folder, {"inspect", "x.safetensors"})["kind"], "safetensors");
}

TEST(Chain, APublishedTokenizerIsScoredByTheChallengesRuleAndSaysWhatItChanges) {
  Folder folder;
  write_texts(folder);
  const auto run = json_of(folder, on_files({"run", "--out", "x"}, {"--set", "model.vocab_size=1024", "--set",
                                                                    "data.tokenizer=" + kPublished}));
  EXPECT_EQ(run["score"]["plain"]["rule"], "challenge");
  EXPECT_EQ(run["score"]["plain"]["verdict"], "valid");
  EXPECT_GT(run["normalisation"]["changed_bytes"].get<int>(), 0);
  const auto said = fairway(folder, {"score", "x/model.fairway", "--text", "held.txt", "--json"});
  ASSERT_EQ(said.code, 0);
  EXPECT_THAT(said.err, HasSubstr("normalisation changes"));
  const auto json = Json::parse(said.out);
  // The 12,000 bytes but for the empty lines between documents.
  EXPECT_EQ(
      json["normalisation"]["bytes"].get<int>() + 2 * (json["normalisation"]["documents"].get<int>() - 1),
      12'000);
  const auto counted = json["sliding"]["bytes"].get<double>();
  EXPECT_NEAR(counted, json["normalisation"]["decoded_bytes"].get<double>(), 0.02 * counted);
}

TEST(Chain, GenerateContinuesThePromptTheSameWayEachTime) {
  Folder folder;
  json_of(folder, quick({"run", "--out", "x"}));
  const Arguments base = {"generate", "x/model.fairway", "--prompt", "The Rat ", "--tokens", "40"};
  auto with = [&](Arguments more) {
    more.insert(more.begin(), base.begin(), base.end());
    return more;
  };
  const auto first = json_of(folder, with({"--seed", "3"}));
  EXPECT_EQ(first["text"], json_of(folder, with({"--seed", "3", "--threads", "1"}))["text"]);
  EXPECT_NE(first["text"], json_of(folder, with({"--seed", "4"}))["text"]);
  EXPECT_EQ(json_of(folder, with({"--seed", "3", "--temperature", "0"}))["text"],
            json_of(folder, with({"--seed", "4", "--top-k", "1"}))["text"]);
  const auto shown = fairway(folder, with({"--seed", "3"}));
  EXPECT_THAT(shown.out, StartsWith("The Rat "));
  EXPECT_EQ(shown.out.substr(0, 8 + first["text"].get<std::string>().size()),
            "The Rat " + first["text"].get<std::string>());
  EXPECT_LE(first["tokens"].size(), 40u);
}

}  // namespace
}  // namespace fairway::test
