// Checkpoint files of a run: which stay, what a damaged one does, what is said when bits will differ.
#include "fairway/artifact/checkpoint.h"
#include "fairway/pipeline/train/save_timer.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include <functional>
#include <limits>

namespace fairway::pipeline::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class Checkpoints : public ::testing::Test {
 protected:
  Checkpoints() { engine.emplace(with_threads(2, &said)); }
  void train(const Recipe& recipe) {
    corpus.emplace(prepare_corpus(recipe, *engine));
    Trainer trainer(recipe, *corpus, *engine);
    trainer.run({}, folder / "c.fwck");
    exported = weights_of(*trainer.exported_weights());
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder / ""))
      names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
  }
  int step_in(const std::string& name) const {
    return Json::parse(artifact::Checkpoint::open(folder / name).metadata())["step"];
  }
  /// The checkpoint with its metadata edited.
  void rewrite(const std::function<void(Json&)>& edit) {
    const auto old = artifact::Checkpoint::open(folder / "c.fwck");
    artifact::CheckpointContents contents{old.tensors(), old.buffers(), old.metadata(), old.tokenizer(),
                                          old.recipe_text()};
    auto meta = Json::parse(contents.metadata);
    edit(meta);
    contents.metadata = meta.dump();
    artifact::write_checkpoint(folder / "edited.fwck", contents);
  }
  std::string restore_error(const Recipe& recipe, const std::string& name) {
    Trainer trainer(recipe, *corpus, *engine);
    return input_error([&] { trainer.restore(folder / name); });
  }

  Said said;
  std::optional<Engine> engine;
  std::optional<Corpus> corpus;
  Folder folder;
  std::vector<std::byte> exported;
};

TEST_F(Checkpoints, TheNewestStayAndTheLatestIsOneOfThem) {
  train(small_recipe({"train.steps=9", "train.checkpoint_every=2", "train.keep_checkpoints=3"}));
  EXPECT_THAT(files(), ElementsAre("c-00000006.fwck", "c-00000008.fwck", "c-00000009.fwck", "c.fwck"));
  EXPECT_EQ(step_in("c.fwck"), 9);
  EXPECT_EQ(step_in("c-00000006.fwck"), 6);
  EXPECT_TRUE(std::filesystem::equivalent(folder / "c.fwck", folder / "c-00000009.fwck")) << "no second copy";
  std::filesystem::remove(folder / "c-00000009.fwck");
  EXPECT_EQ(step_in("c.fwck"), 9) << "it never points at a file that is gone";
}

TEST_F(Checkpoints, WithoutStepsNamedOneIsWrittenByTime) {
  const auto recipe = small_recipe({"train.steps=6", "train.checkpoint_seconds=0.000001"});
  corpus.emplace(prepare_corpus(recipe, *engine));
  Trainer trainer(recipe, *corpus, *engine);
  int seen = -1;
  trainer.run({[&](const StepMetrics& m) {
                if (m.step == 2) seen = step_in("c.fwck");
              }},
              folder / "c.fwck");
  EXPECT_EQ(seen, 1) << "the first was due after the first step";
  const auto saved = weights_of(*trainer.exported_weights());
  auto never = recipe;
  never.train.checkpoint_seconds = 0;
  train(never);
  EXPECT_EQ(exported, saved) << "saving changes no weights";
}

TEST_F(Checkpoints, ASaveThatNobodyAskedForEndsNoRun) {
  const auto recipe = small_recipe({"train.steps=3", "train.checkpoint_seconds=0.000001"});
  corpus.emplace(prepare_corpus(recipe, *engine));
  Trainer trainer(recipe, *corpus, *engine);
  const auto place = folder / "c.fwck";
  std::filesystem::create_directory(place);  // a folder stands in its way at first
  trainer.run({[&](const StepMetrics& m) {
                if (m.step == 3) std::filesystem::remove(place);
              }},
              place);
  EXPECT_THAT(said.warnings, ::testing::Contains(HasSubstr("not saved after step 1: cannot write")));
  EXPECT_EQ(step_in("c.fwck"), 3);
}

TEST(Stop, DuringValidationTheTrainingIsStillSaved) {
  struct StopAtScoring final : base::ProgressSink {
    void update(const base::Progress& state) override {
      if (state.task != "score" || stop.stop_requested()) return;
      inside = state.done < state.total;
      stop.request_stop();
    }
    void note(std::string_view) override {}
    void warning(std::string_view) override {}
    std::stop_source stop;
    bool inside = false;
  } sink;
  auto options = with_threads(1, &sink);
  options.stop = sink.stop.get_token();
  Engine engine(options);
  const auto recipe = small_recipe({"train.steps=6", "train.validate_every=2", "data.holdout_every=5"});
  const auto corpus = prepare_corpus(recipe, engine);
  Folder folder;
  Trainer trainer(recipe, corpus, engine);
  const auto outcome = trainer.run({}, folder / "c.fwck");
  ASSERT_TRUE(sink.inside) << "the stop came while windows were left";
  EXPECT_TRUE(outcome.interrupted);
  EXPECT_EQ(outcome.steps, 2);
  EXPECT_TRUE(std::filesystem::exists(folder / "c.fwck"));
}

TEST(SaveTimer, SavesNowAndThenForAHundredthOfTheTime) {
  SaveTimer timer(60);
  EXPECT_FALSE(timer.due_after(59));
  EXPECT_TRUE(timer.due_after(60));
  timer.saved(0.5);
  EXPECT_TRUE(timer.due_after(60));
  timer.saved(5);
  EXPECT_FALSE(timer.due_after(499));
  EXPECT_TRUE(timer.due_after(500));
  EXPECT_FALSE(SaveTimer(0).due_after(1e9));
}

TEST_F(Checkpoints, OtherDataThanTheRunBeganWithAreRefused) {
  base::write_file(folder / "a.txt", std::string_view("First line.\nSecond line of the text.\n"));
  base::write_file(folder / "v.txt", std::string_view("Held out.\nAnd more of it.\n"));
  auto recipe =
      small_recipe({"train.steps=1", "model.vocab_size=1024", "data.split_on=line",
                    "data.min_document_bytes=0", "model.window=8", "train.batch_tokens=64", "score.stride=0",
                    "data.tokenizer=" FAIRWAY_DATA_DIR "/tokenizers/fineweb_1024_bpe.model"});
  recipe.data.train = {folder("a.txt")};
  recipe.data.validation = {folder("v.txt")};
  train(recipe);
  const auto after = [&](const char* file, std::string_view text) {
    const auto before = base::read_text_file(folder / file);
    base::write_file(folder / file, text);
    corpus.emplace(prepare_corpus(recipe, *engine));
    base::write_file(folder / file, std::string_view(before));
    return restore_error(recipe, "c.fwck");
  };
  EXPECT_THAT(after("a.txt", "First line!\nSecond line of the text.\n"),
              AllOf(HasSubstr("c.fwck: data.train: a.txt has other content since the run began")));
  EXPECT_THAT(after("v.txt", "Held out.\nAnd more of it!\n"), HasSubstr("data.validation: v.txt has other"));
  EXPECT_EQ(after("a.txt", "First line.\nSecond line of the text.\n"), "") << "the same as before";
}

TEST_F(Checkpoints, ADamagedOneFallsBackToTheOneBefore) {
  const auto recipe = small_recipe({"train.steps=6", "train.checkpoint_every=2", "train.keep_checkpoints=2"});
  train(recipe);
  auto bytes = base::read_file(folder / "c.fwck");
  bytes[bytes.size() / 2] ^= std::byte{1};
  base::write_file(folder / "c.fwck", bytes);
  base::write_file(folder / "c-00000006.fwck", bytes);
  Trainer trainer(recipe, *corpus, *engine);
  trainer.restore(folder / "c.fwck");
  EXPECT_EQ(trainer.steps_done(), 4);
  EXPECT_THAT(said.warnings, ElementsAre(HasSubstr("c-00000006.fwck"), HasSubstr("c-00000004.fwck")));
  trainer.run({}, {});
  EXPECT_EQ(weights_of(*trainer.exported_weights()), exported);
}

TEST_F(Checkpoints, MalformedMetadataIsNamed) {
  const auto recipe = small_recipe({"train.steps=1"});
  train(recipe);
  const std::vector<std::pair<std::function<void(Json&)>, std::string>> cases = {
      {[](Json& m) { m.erase("seconds"); }, "'seconds' is missing"},
      {[](Json& m) { m["seconds"] = "soon"; }, "'seconds' is not a number"},
      {[](Json& m) { m["seconds"] = -1; }, "'seconds' is negative"},
      {[](Json& m) { m["step"] = 1.5; }, "'step' is not an integer"},
      {[](Json& m) { m["step"] = -1; }, "'step' is out of range"},
      {[](Json& m) { m["step"] = std::numeric_limits<std::uint64_t>::max(); }, "'step' is out of range"},
      {[](Json& m) { m["step"] = 2; }, "'progress.elapsed_ms' is missing or has another size"},
      {[](Json& m) { m["loader"] = 7; }, "loader: damaged: not an object"},
      {[](Json& m) { m["loader"].erase("position"); }, "'position' is missing"},
      {[](Json& m) { m["rows"] = nullptr; }, "'rows' is not an integer"},
      {[](Json& m) { m["device"] = 1; }, "'device' is not a text"},
      {[](Json& m) { m["changes"] = Json::array({1}); }, "'changes' is not a list of texts"},
  };
  for (const auto& [edit, message] : cases) {
    rewrite(edit);
    EXPECT_THAT(restore_error(recipe, "edited.fwck"), AllOf(HasSubstr("edited.fwck"), HasSubstr(message)));
  }
  rewrite([](Json&) {});
  EXPECT_EQ(restore_error(recipe, "edited.fwck"), "");
}

TEST_F(Checkpoints, WeightsThatAreNotFiniteAreNotSaved) {
  const auto recipe = small_recipe({"train.steps=2"});
  train(recipe);
  const auto before = base::read_file(folder / "c.fwck");
  Trainer trainer(recipe, *corpus, *engine);
  trainer.weights().value("tok_emb.weight").span<float>()[5] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(error_of(base::ErrorKind::failure, [&] { trainer.save(folder / "c.fwck"); }),
              HasSubstr("not finite"));
  EXPECT_EQ(base::read_file(folder / "c.fwck"), before);
}

TEST_F(Checkpoints, AnotherMicroBatchIsAllowedSaidAndMarked) {
  train(small_recipe({"train.steps=2", "train.micro_batch=8"}));
  const auto other = small_recipe({"train.steps=3", "train.micro_batch=4"});
  Trainer trainer(other, *corpus, *engine);
  rewrite([](Json& m) { m.erase("end"); });
  trainer.restore(folder / "edited.fwck");
  EXPECT_THAT(said.warnings, ElementsAre(HasSubstr("micro-batches of 4 instead of 8 after step 2")));
  const auto outcome = trainer.run({}, folder / "d.fwck");
  EXPECT_THAT(outcome.changes, ElementsAre(HasSubstr("micro-batches of 4 instead of 8 after step 2")));
  // The mark stays with the run.
  Trainer later(other, *corpus, *engine);
  later.restore(folder / "d.fwck");
  EXPECT_EQ(later.run({}, {}).changes, outcome.changes);
}

TEST_F(Checkpoints, LateQatGoesOnAfterAResume) {
  const std::vector<std::string> set = {
      "train.steps=8", "train.checkpoint_every=5", "train.keep_checkpoints=3",
      "qat.mlp=5",     "qat.attention=6",          "qat.last_fraction=0.6"};
  const auto recipe = small_recipe(set);
  train(recipe);
  Trainer trainer(recipe, *corpus, *engine);
  trainer.restore(folder / "c-00000005.fwck");
  EXPECT_EQ(trainer.run({}, {}).qat_step, 5);
  EXPECT_EQ(weights_of(*trainer.exported_weights()), exported);
}

}  // namespace
}  // namespace fairway::pipeline::testing
