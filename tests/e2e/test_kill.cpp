// Killed at random instants and continued, a run ends with the bytes of one that was left alone.
#include "e2e.h"
#include "fairway/artifact/checkpoint.h"
#include "fairway/base/clock.h"

#include <iostream>
#include <random>

namespace fairway::test {
namespace {

namespace fs = std::filesystem;

constexpr int kKills = 20;
constexpr int kInterval = 10;  ///< steps between checkpoints

/// A model of a few thousand weights; steps take about a millisecond.
Arguments tiny_run(const std::string& out, const Arguments& more = {}) {
  Arguments all = {"run", "--resume", "--out", out, "--scale", "tiny", "--threads", "1"};
  for (const char* set : {"model.vocab_size=320",
                          "model.layers=2",
                          "model.width=32",
                          "model.heads=1",
                          "model.kv_heads=1",
                          "model.ve_layers=[1]",
                          "model.xsa_layers=[1]",
                          "model.bigram_rows=64",
                          "model.window=32",
                          "data.train_bytes=60000",
                          "train.steps=1600",
                          "train.warmdown_steps=800",
                          "train.batch_tokens=256",
                          "train.checkpoint_every=10",
                          "train.keep_checkpoints=3",
                          "train.validate_every=0",
                          "average.kind=swa",
                          "average.swa_every=20",
                          "average.swa_below=0.5",
                          "qat.attention=6",
                          "qat.mlp=5",
                          "qat.last_fraction=0.3",
                          "quant.level=3",
                          "quant.passthrough_limit=256",
                          "score.tokens=1000",
                          "score.stride=16",
                          "generate.tokens=8"}) {
    all.push_back("--set");
    all.push_back(set);
  }
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// The step of the newest checkpoint; -1: none yet. Every one that is there can be opened, whatever was
/// killed.
int last_checkpoint(const Folder& folder, const std::string& run) {
  const auto path = folder / (run + "/checkpoint.fwck");
  if (!fs::exists(path)) return -1;
  return Json::parse(artifact::Checkpoint::open(path).metadata())["step"];
}

/// What a resumed run said: "continuing after step N"; -1: it did not get so far, or started anew.
int continued_after(const std::string& said) {
  const std::string words = "continuing after step ";
  const auto at = said.find(words);
  return at == said.npos ? -1 : std::stoi(said.substr(at + words.size()));
}

/// Where the run is made, and what that needs.
struct Place {
  std::string name;
  Arguments more;
};

void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }

class Kill : public ::testing::TestWithParam<Place> {
 protected:
  Arguments run(const std::string& out, Arguments more = {}) const {
    more.insert(more.begin(), GetParam().more.begin(), GetParam().more.end());
    return tiny_run(out, more);
  }
};

// A GPU's steps are in bf16 with heads of 64, and there is more than one micro-batch.
INSTANTIATE_TEST_SUITE_P(Devices, Kill,
                         ::testing::Values(Place{"cpu", {}},
                                           Place{"cuda",
                                                 {"--device", "cuda", "--set", "model.width=64", "--set",
                                                  "train.batch_tokens=512", "--set", "train.micro_batch=8"}}),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(Kill, TwentyTimesAtRandomInstantsEndsWithTheSameArtifact) {
  Folder folder;
  base::Stopwatch clock;
  const auto first = fairway(folder, run("whole"));
  if (GetParam().name != "cpu" && first.code == 2) GTEST_SKIP() << "needs a GPU: " << first.err;
  ASSERT_EQ(first.code, 0) << first.err;
  const double whole = clock.seconds();
  // What it takes to get to the first checkpoint: start-up and one interval.
  clock.restart();
  const auto start = fairway(folder, run("start", {"--set", "train.steps=" + std::to_string(kInterval)}));
  ASSERT_EQ(start.code, 0) << start.err;
  const double start_up = clock.seconds();

  std::mt19937_64 random(2024);
  // So long a run may live. Every other one lives on until it has saved a step of its own, however slow the
  // machine is.
  const double longest = start_up + whole / 24;
  int kills = 0, resumed = 0, reached = -1, runs = 1;
  const auto finish = [&] {  // what is left of the run, unharmed
    const auto name = "x" + std::to_string(runs);
    const auto last = fairway(folder, run(name));
    ASSERT_EQ(last.code, 0) << last.err;
    EXPECT_EQ(artifact_of(folder, name), artifact_of(folder, "whole"));
    for (const auto& entry : fs::directory_iterator(folder / name))
      EXPECT_FALSE(entry.path().filename().string().starts_with('.')) << entry.path() << " was left behind";
  };
  while (kills < kKills) {
    const auto name = "x" + std::to_string(runs);
    Background running(folder, run(name));
    const auto wait = std::uniform_real_distribution<double>(0, longest)(random);
    if (kills % 2 == 1) running.until([&] { return last_checkpoint(folder, name) > reached; });
    base::Stopwatch since;
    while (since.seconds() < wait && running.running())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!running.running()) {  // done before its time: the kills that are left are for another run
      finish();
      ++runs;
      reached = -1;
      continue;
    }
    running.send(SIGKILL);
    const auto said = running.wait();
    ++kills;
    if (const int from = continued_after(said.err); from >= 0) {
      ++resumed;
      ASSERT_GE(from, reached) << "a resume starts at the last checkpoint or after it";
    }
    const int now = last_checkpoint(folder, name);
    ASSERT_GE(now, reached) << "the last checkpoint was lost";
    reached = now;
  }
  EXPECT_GT(resumed, kKills / 4) << "too few kills found a run to go on with";
  finish();
  std::cout << "whole " << whole << " s, start " << start_up << " s, " << kills << " kills, " << resumed
            << " resumed, " << runs << " runs\n";
}

TEST(RunFolder, AFolderIsWorkedInByOneAtATime) {
  Folder folder;
  Background run(folder, tiny_run("x", {"--set", "train.steps=1000000"}));
  ASSERT_TRUE(run.until([&] { return fs::exists(folder / "x/checkpoint.fwck"); }));
  const auto second = fairway(folder, tiny_run("x", {"--set", "train.steps=1000000"}));
  expect_input_error(second, "another run is working in this folder");
}

}  // namespace
}  // namespace fairway::test
