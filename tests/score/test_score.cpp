#include "fairway/score/score.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>

#include "fairway/base/error.h"
#include "fairway/base/random.h"

namespace fairway::score {
namespace {

/// What a causal model may depend on: all inputs of the window up to the position, and the target.
float fake_nll(std::span<const std::int32_t> context, std::int32_t target) {
  double h = 0.5;
  for (std::int32_t token : context) h = std::fmod(h * 1.7 + token * 0.013 + 0.01, 1.0);
  return static_cast<float>(0.1 + h + 0.03 * target);
}

class FakeModel final : public WindowScorer {
 public:
  FakeModel(int rows, std::int32_t window) : rows_(rows), window_(window) {}
  int rows() const override { return rows_; }
  void score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets, int last,
             std::span<float> nll) override {
    ASSERT_EQ(inputs.size(), static_cast<std::size_t>(rows_ * window_));
    ASSERT_EQ(targets.size(), static_cast<std::size_t>(rows_ * last));
    ASSERT_EQ(nll.size(), targets.size());
    lengths.insert(last);
    ++calls;
    for (int r = 0; r < rows_; ++r)
      for (int i = 0; i < last; ++i) {
        const auto at = static_cast<std::size_t>(r * last + i);
        const auto position = static_cast<std::size_t>(window_ - last + i);
        nll[at] = fake_nll(inputs.subspan(static_cast<std::size_t>(r * window_), position + 1), targets[at]);
      }
    if (poison >= 0 && calls == poison) nll[1] = std::numeric_limits<float>::quiet_NaN();
  }
  std::set<int> lengths;
  int calls = 0, poison = -1;

 private:
  int rows_;
  std::int32_t window_;
};

std::int32_t fake_bytes(std::int32_t target, std::int32_t previous) { return target % 5 + (previous % 2); }
std::int32_t fake_count(const TokenView& tokens, std::int64_t t) {
  return fake_bytes(tokens[t + 1], tokens[t]);
}

std::vector<std::int32_t> random_tokens(std::int64_t count) {
  const base::Random random(7, "test_score");
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(random.below(i, 50));
  return tokens;
}

struct Reference {
  double nll = 0;
  std::int64_t tokens = 0, bytes = 0;
};

/// The published loop, window by window, written down from docs/spec/evaluation.md; `clean` keeps first
/// scores only.
Reference reference(std::span<const std::int32_t> tokens, std::int32_t s, std::int32_t d, bool published) {
  const auto all = static_cast<std::int64_t>(tokens.size()) - 1;
  const std::int64_t u = published ? all / s * s : all;
  std::vector<bool> seen(static_cast<std::size_t>(u));
  Reference sum;
  for (std::int64_t w = 0; w < u; w += d) {
    const std::int64_t n = std::min<std::int64_t>(s, u - w);
    for (std::int64_t p = w == 0 ? 0 : (published ? std::max<std::int64_t>(n - d, 0) : 0); p < n; ++p) {
      const auto t = static_cast<std::size_t>(w + p);
      if (!published && seen[t]) continue;
      seen[t] = true;
      sum.nll += static_cast<double>(fake_nll(
          tokens.subspan(static_cast<std::size_t>(w), static_cast<std::size_t>(p) + 1), tokens[t + 1]));
      sum.bytes += fake_bytes(tokens[t + 1], tokens[t]);
      ++sum.tokens;
    }
  }
  return sum;
}

TEST(Score, EqualsTheLoopWrittenDown) {
  const base::Random random(11, "sizes");
  for (std::uint64_t i = 0; i < 300; ++i) {
    const auto s = static_cast<std::int32_t>(1 + random.below(5 * i, 24));
    const auto d = static_cast<std::int32_t>(1 + random.below(5 * i + 1, static_cast<std::uint64_t>(s)));
    const bool published = random.below(5 * i + 2, 2) != 0;
    const auto tokens =
        random_tokens((published ? s + 1 : 2) + static_cast<std::int64_t>(random.below(5 * i + 3, 90)));
    const auto rows = static_cast<int>(1 + random.below(5 * i + 4, 6));
    SCOPED_TRACE(fmt::format("N {} S {} d {} rows {} published {}", tokens.size(), s, d, rows, published));
    const auto plan = WindowPlan::sliding(static_cast<std::int64_t>(tokens.size()), s, d,
                                          published ? Tail::published : Tail::clean);
    FakeModel model(rows, s);
    ScoreOptions options;
    options.text = [](std::int64_t) { return TextReference{{{0, 1'000'000}}}; };
    const auto result = score(plan, std::span<const std::int32_t>(tokens), model, fake_count, options);
    const auto expected = reference(tokens, s, d, published);
    ASSERT_EQ(result.tokens, expected.tokens);
    ASSERT_EQ(result.bytes, expected.bytes);
    ASSERT_EQ(result.nll, expected.nll);  // the same fp64 additions in the same order
    ASSERT_EQ(result.tokens, plan.scored());
    ASSERT_TRUE(result.verdict.valid()) << result.verdict.text();
    ASSERT_EQ(result.verdict.notes.empty(), plan.scored() == plan.targets());
    for (int length : model.lengths) ASSERT_TRUE(length == s || length == d);
  }
}

TEST(Score, PlainWindowsStartWithoutContext) {
  const auto tokens = random_tokens(103);
  FakeModel model(4, 10);
  const auto result =
      score(WindowPlan::plain(103, 10), std::span<const std::int32_t>(tokens), model, fake_count);
  const auto expected = reference(tokens, 10, 10, false);
  EXPECT_EQ(result.nll, expected.nll);
  EXPECT_EQ(result.tokens, 102);
  EXPECT_EQ(result.windows, 11);
  EXPECT_EQ(model.calls, 3);
  FakeModel again(4, 10);
  const auto cut = score(WindowPlan::plain(103, 10, Tail::published), std::span<const std::int32_t>(tokens),
                         again, fake_count);
  EXPECT_EQ(cut.tokens, 100);
  EXPECT_EQ(cut.skipped_targets, 2);
}

TEST(Score, BatchSizeNeverChangesTheResult) {
  const auto tokens = random_tokens(500);
  const std::vector<std::uint16_t> shorts(tokens.begin(), tokens.end());
  const auto plan = WindowPlan::sliding(500, 32, 8);
  FakeModel one(1, 32);
  const auto expected = score(plan, std::span<const std::int32_t>(tokens), one, fake_count);
  for (int rows : {2, 7, 64, 1000}) {
    FakeModel model(rows, 32);
    const auto result = score(plan, std::span<const std::uint16_t>(shorts), model, fake_count);
    EXPECT_EQ(result.nll, expected.nll) << rows;
    EXPECT_EQ(result.bytes, expected.bytes);
  }
}

TEST(Score, NotANumberNamesWindowAndPosition) {
  const auto tokens = random_tokens(100);
  FakeModel model(3, 16);
  model.poison = 2;  // second call: windows 1 to 3, the last 4 positions; entry 1 is position 13 of window 1
  try {
    score(WindowPlan::sliding(100, 16, 4), std::span<const std::int32_t>(tokens), model, fake_count);
    FAIL() << "accepted";
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::failure);
    EXPECT_STREQ(e.what(),
                 "score: the nll of target 17 is not a number (window 1 from token 4, position 13)");
  }
}

TEST(Score, StopsOnRequestAndReportsProgress) {
  struct Sink final : base::ProgressSink {
    std::stop_source source;
    std::vector<std::int64_t> done;
    void update(const base::Progress& p) override {
      done.push_back(p.done);
      EXPECT_EQ(p.total, 22);
      EXPECT_TRUE(p.loss.has_value());
      if (done.size() == 2) source.request_stop();
    }
    void note(std::string_view) override {}
    void warning(std::string_view) override {}
  } sink;
  const auto tokens = random_tokens(101);
  FakeModel model(4, 16);
  ScoreOptions options;
  options.progress = &sink;
  options.stop = sink.source.get_token();
  try {
    score(WindowPlan::sliding(101, 16, 4), std::span<const std::int32_t>(tokens), model, fake_count, options);
    FAIL() << "not stopped";
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::interrupted);
  }
  EXPECT_EQ(sink.done, (std::vector<std::int64_t>{1, 5}));
}

TEST(Score, JsonNamesWhatWasCounted) {
  const auto tokens = random_tokens(65);
  FakeModel model(2, 16);
  ScoreOptions options;
  options.byte_rule = "exact";
  options.text = [](std::int64_t) { return TextReference{{{0, 90}, {30, 102}}}; };
  const auto result = score(WindowPlan::sliding(65, 16, 4, Tail::published),
                            std::span<const std::int32_t>(tokens), model, fake_count, options);
  const auto j = result.to_json();
  EXPECT_EQ(j["tokens"], 64 + 16 - 4);
  EXPECT_EQ(j["rule"], "exact");
  EXPECT_EQ(j["verdict"], "valid");
  EXPECT_EQ(j["tail"], "published");
  EXPECT_EQ(j["notes"].size(), 1u);
  EXPECT_EQ(j["stride"], 4);
  EXPECT_EQ(j["documents"].size(), 2u);
  EXPECT_DOUBLE_EQ(j["bits_per_byte"].get<double>(),
                   result.nll / std::numbers::ln2 / static_cast<double>(result.bytes));
  EXPECT_DOUBLE_EQ(j["loss"].get<double>(), result.nll / static_cast<double>(result.tokens));
}

TEST(Score, TextOfNoBytesHasNoBitsPerByte) {
  const auto tokens = random_tokens(20);
  FakeModel model(1, 16);
  const auto result = score(WindowPlan::plain(20, 16), std::span<const std::int32_t>(tokens), model,
                            [](const TokenView&, std::int64_t) { return 0; });
  EXPECT_TRUE(std::isnan(result.bits_per_byte));
  EXPECT_TRUE(result.to_json()["bits_per_byte"].is_null());
}

}  // namespace
}  // namespace fairway::score
