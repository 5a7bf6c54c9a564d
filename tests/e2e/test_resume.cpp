// Stopping and going on.
#include "e2e.h"
#include "fairway/artifact/checkpoint.h"

#include <fstream>

namespace fairway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
namespace fs = std::filesystem;

/// Long enough to be caught, with a checkpoint after every second step.
Arguments long_run(const std::string& out, const Arguments& more = {}) {
  Arguments all = {"--out", out, "--set", "train.steps=60", "--set", "train.checkpoint_every=2"};
  all.insert(all.end(), more.begin(), more.end());
  return quick({"run"}, all);
}

std::vector<int> steps_of(const fs::path& metrics) {
  std::vector<int> steps;
  std::ifstream file(metrics);
  for (std::string line; std::getline(file, line);) steps.push_back(Json::parse(line)["step"]);
  return steps;
}

int step_of(const Folder& folder, const std::string& checkpoint) {
  const auto file = artifact::Checkpoint::open(folder / checkpoint);
  return Json::parse(file.metadata())["step"];
}

void expect_same_as_uninterrupted(const Folder& folder, const std::string& run) {
  const auto resumed = fairway(folder, long_run(run, {"--resume"}));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  ASSERT_EQ(fairway(folder, long_run("whole")).code, 0);
  EXPECT_EQ(artifact_of(folder, run), artifact_of(folder, "whole"));
  const auto steps = steps_of(folder / (run + "/metrics.jsonl"));
  ASSERT_EQ(steps.size(), 60u) << "each step stands in the log once";
  for (std::size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], static_cast<int>(i) + 1);
  const auto result = Json::parse(base::read_text_file(folder / (run + "/result.json")));
  const auto whole = Json::parse(base::read_text_file(folder / "whole/result.json"));
  EXPECT_EQ(result["score"]["sliding"]["nll"], whole["score"]["sliding"]["nll"]);
  EXPECT_EQ(result["train"]["loss"], whole["train"]["loss"]);
}

TEST(Resume, AfterCtrlCTheStepIsFinishedAndSaved) {
  Folder folder;
  Background run(folder, long_run("x"));
  ASSERT_TRUE(run.until([&] { return fs::exists(folder / "x/checkpoint.fwck"); }));
  run.send(SIGINT);
  const auto said = run.wait();
  ASSERT_EQ(said.code, 130) << said.err;
  const int step = step_of(folder, "x/checkpoint.fwck");
  EXPECT_LT(step, 60);
  EXPECT_THAT(said.err, HasSubstr("fairway: interrupted after step " + std::to_string(step) +
                                  "; saved in x, continue with --resume\n"));
  EXPECT_FALSE(fs::exists(folder / "x/result.json"));
  expect_same_as_uninterrupted(folder, "x");
}

TEST(Resume, AfterAKillFromTheLastCheckpoint) {
  Folder folder;
  Background run(folder, long_run("x"));
  ASSERT_TRUE(run.until(
      [&] { return fs::exists(folder / "x/checkpoint.fwck") && step_of(folder, "x/checkpoint.fwck") >= 6; }));
  run.send(SIGKILL);
  EXPECT_EQ(run.wait().code, -1);
  for (const auto& entry : fs::directory_iterator(folder / "x"))  // what a killed writer leaves does no harm
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(MatchesRegex("model.*")));
  expect_same_as_uninterrupted(folder, "x");
}

TEST(Resume, AfterTrainingWasDone) {
  Folder folder;
  ASSERT_EQ(fairway(folder, long_run("x")).code, 0);
  fs::remove(folder / "x/result.json");
  fs::remove(folder / "x/model.fairway");
  expect_same_as_uninterrupted(folder, "x");
}

TEST(Resume, ASecondSignalExitsAtOnce) {
  Folder folder;
  Background run(folder, long_run("x", {"--set", "train.steps=100000"}));
  ASSERT_TRUE(run.until([&] { return fs::exists(folder / "x/checkpoint.fwck"); }));
  run.send(SIGINT);
  run.send(SIGTERM);
  EXPECT_EQ(run.wait().code, 130);
}

TEST(Resume, FinishedChangedAndUsedFolders) {
  Folder folder;
  ASSERT_EQ(fairway(folder, quick({"run", "--out", "x", "--resume"})).code, 0) << "an empty folder starts";
  const auto bytes = base::read_file(folder / "x/model.fairway");
  const auto result = base::read_file(folder / "x/result.json");

  auto said = fairway(folder, quick({"run", "--out", "x", "--resume"}));
  EXPECT_EQ(said.code, 0);
  EXPECT_THAT(said.out, HasSubstr("finished already"));
  EXPECT_EQ(base::read_file(folder / "x/result.json"), result) << "nothing is done again";

  expect_input_error(fairway(folder, quick({"run", "--out", "x"})), "--out x: the folder is not empty");
  expect_input_error(fairway(folder, quick({"run", "--out", "x", "--resume"},
                                           {"--set", "optim.matrix_lr=0.01", "--set", "train.steps=9"})),
                     "the recipe differs from the run in x in optim.matrix_lr, train.steps");
  EXPECT_EQ(base::read_file(folder / "x/model.fairway"), bytes);
}

TEST(Resume, TrainThenRunInOneFolderTrainsOnce) {
  Folder folder;
  ASSERT_EQ(fairway(folder, quick({"train", "--out", "x"})).code, 0);
  EXPECT_EQ(step_of(folder, "x/checkpoint.fwck"), 8);
  const auto recipe = base::read_text_file(folder / "x/recipe.toml");
  const auto said = fairway(folder, {"run", "x", "--resume"});  // by the folder's own recipe
  ASSERT_EQ(said.code, 0) << said.err;
  EXPECT_TRUE(fs::exists(folder / "x/model.fairway")) << "training was finished, packing and scores were not";
  EXPECT_EQ(base::read_text_file(folder / "x/recipe.toml"), recipe) << "with its comments";
  EXPECT_EQ(steps_of(folder / "x/metrics.jsonl").size(), 8u);
}

TEST(Resume, AFolderWithoutARunIsLeftAlone) {
  Folder folder;
  fs::create_directory(folder / "x");
  base::write_file(folder / "x/sample.txt", std::string_view("the user's own text"));
  expect_input_error(
      fairway(folder, quick({"run", "--out", "x", "--resume"}, {"--set", "data.train=x/sample.txt"})),
      "--resume: there is no run in x");
  EXPECT_EQ(base::read_text_file(folder / "x/sample.txt"), "the user's own text");
}

TEST(Resume, ARunThatKeepsNoCheckpointSaysSo) {
  Folder folder;
  ASSERT_EQ(fairway(folder, quick({"train", "--out", "x"})).code, 0);
  const auto said = fairway(folder, {"run", "--resume", "--out", "x", "--set", "train.keep_checkpoints=0"});
  ASSERT_EQ(said.code, 0) << said.err;
  EXPECT_FALSE(fs::exists(folder / "x/checkpoint.fwck"));
  EXPECT_EQ(Json::parse(base::read_text_file(folder / "x/result.json"))["checkpoint"], nullptr);
  const auto again = fairway(folder, {"run", "x", "--resume"});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("finished already"));
  for (const Arguments& command : {Arguments{"pack", "x", "--out", "m"},
                                   {"pack", "x/checkpoint.fwck", "--out", "m"},
                                   {"export", "x/checkpoint.fwck", "--raw", "--out", "m"}})
    expect_input_error(fairway(folder, command), "kept no checkpoint (train.keep_checkpoints = 0)");
}

TEST(NotANumber, StopsTheRunAndKeepsTheLastGoodState) {
  Folder folder;
  // Weight decay past 1 turns into growth: tables become 99 times larger in each step.
  const auto said = fairway(
      folder, quick({"run", "--out", "x"}, {"--set", "train.steps=60", "--set", "train.warmdown_steps=0",
                                            "--set", "optim.table_lr=10", "--set",
                                            "optim.adam_weight_decay=10", "--set", "optim.grad_clip=0"}));
  EXPECT_EQ(said.code, 1);
  const int step = step_of(folder, "x/checkpoint.fwck");
  EXPECT_GT(step, 1);
  EXPECT_THAT(said.err, HasSubstr("fairway: error: step " + std::to_string(step + 1) + ": "));
  EXPECT_THAT(said.err, HasSubstr("the weights are those after step " + std::to_string(step)));
  EXPECT_FALSE(fs::exists(folder / "x/model.fairway"));
  const auto json = json_of(folder, {"inspect", "x/checkpoint.fwck"});
  EXPECT_EQ(json["metadata"]["step"], step);
  EXPECT_EQ(json_of(folder, {"export", "x/checkpoint.fwck", "--raw", "--out", "x.safetensors"})["path"],
            "x.safetensors");
}

}  // namespace
}  // namespace fairway::test
