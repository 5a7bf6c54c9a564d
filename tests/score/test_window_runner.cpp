// What a scorer is handed: the windows' tokens and targets, and zeros where there is no window.
#include "fairway/score/window_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace fairway::score {
namespace {

using ::testing::ElementsAre;

/// Four rows; keeps what it was asked, answers with the target's number.
class Recorder final : public WindowScorer {
 public:
  int rows() const override { return 4; }
  void score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets, int,
             std::span<float> nll) override {
    this->inputs.emplace_back(inputs.begin(), inputs.end());
    this->targets.emplace_back(targets.begin(), targets.end());
    for (std::size_t i = 0; i < nll.size(); ++i) nll[i] = static_cast<float>(targets[i]);
  }
  std::vector<std::vector<std::int32_t>> inputs, targets;
};

TEST(WindowRunner, RowsWithoutAWindowAndPaddingHoldZeros) {
  std::vector<std::int32_t> tokens(24);
  std::iota(tokens.begin(), tokens.end(), 100);
  Recorder recorder;
  WindowRunner runner(std::span<const std::int32_t>(tokens), 4, recorder);
  const auto plan = WindowPlan::plain(static_cast<std::int64_t>(tokens.size()), 4);
  ASSERT_EQ(plan.size(), 6);  // five windows of 4 targets, one of 3
  std::vector<Window> windows;
  for (std::int64_t i = 0; i < plan.size(); ++i) windows.push_back(plan[i]);
  std::vector<float> scores;
  runner.run(windows, 0, [&](const Window&, std::span<const float> nll) {
    scores.insert(scores.end(), nll.begin(), nll.end());
  });
  ASSERT_EQ(recorder.inputs.size(), 2u);
  EXPECT_THAT(recorder.inputs[0],
              ElementsAre(100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115));
  EXPECT_THAT(recorder.inputs[1], ElementsAre(116, 117, 118, 119, 120, 121, 122, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(recorder.targets[1], ElementsAre(117, 118, 119, 120, 121, 122, 123, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  ASSERT_EQ(scores.size(), 23u);
  for (std::size_t i = 0; i < scores.size(); ++i) EXPECT_EQ(scores[i], static_cast<float>(101 + i));
}

}  // namespace
}  // namespace fairway::score
