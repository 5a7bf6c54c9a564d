#include "fairway/ops/cross_entropy.h"

#include <cmath>
#include <limits>

#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

TEST(SoftcapCrossEntropy, AllChecks) {
  for (const auto& [rows, classes] : {std::pair{1, 1}, {3, 65}, {130, 33}, {9, 1024}}) {
    auto c =
        op_case(fmt::format("softcap_cross_entropy {}x{}", rows, classes),
                std::make_shared<SoftcapCrossEntropy>(30.0f),
                {tensor_input({rows, classes}, normal(8)), index_input({rows}, integers(-1, classes))}, {1});
    c.add_outputs = {0};
    c.rejects = {{{DType::f32, {rows, classes}}, {DType::i32, {rows + 1}}},
                 {{DType::f32, {rows, classes}}, {DType::i64, {rows}}}};
    // Gradients of unlikely classes are tiny against the row's rms; the rms part of the tolerance covers
    // them.
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(SoftcapCrossEntropy, ZLossAddsTheSquaredNormaliser) {
  for (const auto& [rows, classes] : {std::pair{3, 65}, {9, 1024}}) {
    const auto with = [&](float z_loss) {
      auto c = op_case(fmt::format("softcap_cross_entropy {}x{} z_loss {}", rows, classes, z_loss),
                       std::make_shared<SoftcapCrossEntropy>(30.0f, z_loss),
                       {tensor_input({rows, classes}, normal(8)), index_input({rows}, integers(-1, classes))},
                       {1});
      c.add_outputs = {0};
      return c;
    };
    EXPECT_EQ(run_all_checks(with(0.01f)), "");
    const auto plain = output_values(with(0)), lse = output_values(with(0), 1),
               more = output_values(with(0.01f));
    int scored = 0;
    for (std::size_t t = 0; t < plain.size(); ++t) {
      if (plain[t] == 0) {
        EXPECT_EQ(more[t], 0) << t;
        continue;
      }
      ++scored;
      EXPECT_NEAR(more[t] - plain[t], 0.01 * lse[t] * lse[t], 1e-4) << t;
      EXPECT_GT(more[t], plain[t] + 0.01) << t;
    }
    EXPECT_GT(scored, 0);
  }
}

TEST(SoftcapCrossEntropy, LargeVocabularyAndOtherCaps) {
  for (float cap : {15.0f, 30.0f, 300.0f}) {
    auto c = op_case(
        fmt::format("softcap_cross_entropy 12288 cap {}", cap), std::make_shared<SoftcapCrossEntropy>(cap),
        {tensor_input({2, 2, 12288}, normal(20)), index_input({2, 2}, integers(-1, 12288))}, {1});
    c.tolerance = 1e-4;  // z / cap is rounded to fp32 before tanh
    EXPECT_EQ(check_precision(c), "");
    EXPECT_EQ(check_threads(c), "");
  }
}

TEST(SoftcapCrossEntropy, UniformLogitsAndExtremes) {
  const auto op = std::make_shared<SoftcapCrossEntropy>(30.0f);
  const auto flat =
      op_case("", op, {tensor_input({2, 1024}, constant(0)), index_input({2}, listed({5, 1023}))}, {1});
  for (double nll : output_values(flat)) EXPECT_NEAR(nll, std::log(1024.0), 1e-6);
  // A raw logit of 1e6 stands at the cap, all others 60 below: nll of the others is 60.
  std::vector<double> z(40, -1e6);
  z[7] = 1e6;
  const auto sharp = op_case("", op, {tensor_input({1, 40}, listed(z)), index_input({1}, constant(3))}, {1});
  EXPECT_NEAR(output_values(sharp)[0], 60.0, 1e-5);
  EXPECT_NEAR(output_values(sharp, 1)[0], 30.0, 1e-5);
}

TEST(SoftcapCrossEntropy, UnscoredPositionsCountNothing) {
  const auto c = op_case("", std::make_shared<SoftcapCrossEntropyBackward>(30.0f),
                         {tensor_input({2, 33}, normal()), index_input({2}, listed({-1, 4})),
                          tensor_input({2}, constant(3.5)), tensor_input({2}, constant(1))});
  const auto dz = output_values(c);
  for (std::size_t i = 0; i < 33; ++i) EXPECT_EQ(dz[i], 0) << i;
  EXPECT_LT(dz[33 + 4], 0);
  const auto nll = output_values(op_case("", std::make_shared<SoftcapCrossEntropy>(30.0f),
                                         {tensor_input({1, 33}, normal()), index_input({1}, constant(-1))}));
  EXPECT_EQ(nll[0], 0);
}

TEST(SoftcapCrossEntropy, RefusesWrongTargetsAndShowsNotANumber) {
  const auto op = std::make_shared<SoftcapCrossEntropy>(30.0f);
  for (double bad : {-2.0, 33.0})
    EXPECT_THROW(
        output_values(op_case("", op, {tensor_input({1, 33}, normal()), index_input({1}, constant(bad))})),
        base::Error);
  std::vector<double> z(33, 1.0);
  z[20] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(
      output_values(op_case("", op, {tensor_input({1, 33}, listed(z)), index_input({1}, constant(1))}))[0]));
}

TEST(Softcap, AllChecks) {
  auto c = op_case("softcap", std::make_shared<Softcap>(30.0f), {tensor_input({5, 1025}, normal(25), false)});
  c.add_outputs = {0};
  EXPECT_EQ(run_all_checks(c), "");
  const auto values = output_values(
      op_case("", std::make_shared<Softcap>(30.0f), {tensor_input({3}, listed({0, 30, -300}), false)}));
  EXPECT_NEAR(values[1], 30 * std::tanh(1.0), 1e-5);
  EXPECT_EQ(values[0], 0);
  EXPECT_NEAR(values[2], -30, 1e-5);
}

TEST(WeightedSum, AllChecks) {
  for (const Shape& shape : {Shape{1}, Shape{3, 65}, Shape{2, 2049}}) {
    auto c = op_case("weighted_sum " + shape.str(), std::make_shared<WeightedSum>(),
                     {tensor_input(shape, normal()), tensor_input(shape, uniform(0, 1), false)});
    c.add_outputs = {0};
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(WeightedSum, SumsInDouble) {
  // A million summands of 0.1: an fp32 running sum is off by 1 %.
  const auto c =
      op_case("", std::make_shared<WeightedSum>(),
              {tensor_input({1000000}, constant(0.1)), tensor_input({1000000}, constant(1), false)});
  EXPECT_EQ(output_values(c)[0], static_cast<float>(1e6 * static_cast<double>(0.1f)));
}

}  // namespace
}  // namespace fairway::ops
