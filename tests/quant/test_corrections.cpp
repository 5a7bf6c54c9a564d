// LQER and AWQ-lite against PR 2014's quantiser (tests/golden/lqer_awq, tests/golden/gptq).
#include <gmock/gmock.h>

#include <cmath>

#include "fairway/quant/policy.h"
#include "support/safetensors.h"

namespace fairway::quant {
namespace {

constexpr std::array names = {"tok_emb.weight", "blocks.0.mlp.fc.weight", "blocks.1.attn.c_q.weight"};

class Corrections : public ::testing::Test {
 protected:
  Corrections() {
    for (const std::string name : names) {
      const auto& w = golden_.at(name + "/W");
      values_.push_back(w.as<float>());
      auto h = golden_.floats(name + "/H");
      const auto rms = golden_.floats(name + "/act_rms");
      const auto n = rms.size();
      // The file's Hessians are sums; what AWQ reads is the mean over input rows.
      const double rows = double{h[0]} / (double{rms[0]} * rms[0]);
      for (std::size_t j = 0; j < n; ++j)
        EXPECT_NEAR(std::sqrt(h[j * n + j] / rows), rms[j], 1e-5 * rms[j]) << name << " " << j;
      for (auto& v : h) v = static_cast<float>(v / rows);
      hessians_[name] = h;
      const auto category = name.starts_with("tok")                 ? Category::table
                            : name.find("mlp") != std::string::npos ? Category::mlp
                                                                    : Category::attention;
      infos_.push_back({name, {w.shape[0], w.shape[1]}, category});
    }
    policy_.attention = &find_rule("x", "int6_gptq");
    policy_.table = &find_rule("x", "int7_gptq");
    policy_.passthrough_limit = 0;
  }
  std::vector<QuantizedTensor> quantized(int threads = 2) {
    std::vector<Source> sources;
    for (std::size_t i = 0; i < infos_.size(); ++i) sources.push_back({infos_[i], values_[i]});
    base::ThreadPool pool(threads);
    return quantize_model(policy_, sources, pool, hessians_);
  }
  /// A pack of the file without the factors' free signs: the rank columns that were turned around.
  std::vector<float> signs(const std::string& key, const Factorisation& f, std::int64_t rank) {
    const auto b = golden_.floats(key + ".lqer_B");
    const auto columns = b.size() / static_cast<std::size_t>(rank);
    std::vector<float> result;
    for (std::size_t k = 0; k < static_cast<std::size_t>(rank); ++k) {
      double along = 0;
      for (std::size_t j = 0; j < columns; ++j) along += double{b[k * columns + j]} * f.b[k * columns + j];
      EXPECT_NEAR(std::fabs(along), 1, 1e-4) << key << " " << k;
      result.push_back(along < 0 ? -1.0f : 1.0f);
    }
    return result;
  }
  void expect_grid(const std::string& run, const QuantizedTensor& t) {
    const auto key = run + "/" + t.name;
    const auto q = golden_.at(key + ".q").as<std::int8_t>();
    ASSERT_EQ(t.q.size(), q.size());
    std::size_t different = 0;
    for (std::size_t i = 0; i < q.size(); ++i) different += t.q[i] != q[i];
    EXPECT_LE(different, q.size() / 1000) << key;
    expect_halves(key + ".scale", t.scales);
    const auto fine = key + ".awqg_start";
    ASSERT_EQ(golden_.has(fine), !t.fine.starts.empty()) << key;
    if (t.fine.starts.empty()) return;
    EXPECT_EQ(t.fine.size, golden_.at(key + ".awqg_size").as<std::int16_t>()[0]);
    const auto starts = golden_.at(fine).as<std::int16_t>();
    EXPECT_TRUE(std::ranges::equal(t.fine.starts, starts)) << key;
    expect_halves(key + ".awqg_s_hi", t.fine.scales);
  }
  void expect_halves(const std::string& key, const std::vector<tensor::f16>& halves) {
    const auto expected = golden_.at(key).as<std::uint16_t>();
    ASSERT_EQ(halves.size(), expected.size()) << key;
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_EQ(halves[i].bits, expected[i]) << key << " " << i;
  }
  std::vector<float> residual(std::size_t i, const QuantizedTensor& t) {
    std::vector<float> e;
    base::ThreadPool pool(1);
    squared_residual(values_[i], t, pool, &e);
    return e;
  }

  testing::GoldenFile golden_ = testing::read_safetensors(FAIRWAY_GOLDEN_DIR "/lqer_awq.safetensors");
  std::vector<std::vector<float>> values_;
  std::vector<TensorInfo> infos_;
  Hessians hessians_;
  QuantPolicy policy_;
};

void expect_codes(const std::vector<std::int8_t>& codes, const std::vector<std::int8_t>& expected,
                  const std::string& what) {
  ASSERT_EQ(codes.size(), expected.size());
  std::size_t different = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) different += codes[i] != expected[i];
  EXPECT_LE(different, codes.size() / 200) << what;
}

/// The ranges are lopsided: the largest of either sign lies half a step beyond the positive end.
TEST(Lqer, CodesStayInTheirRanges) {
  using Codes = std::vector<std::int8_t>;
  const auto packed = pack_low_rank({{1.5f, -1.5f, 0.6f, 0.0f}, {7.5f, -7.5f, 3.0f}}, 1, 64);
  EXPECT_EQ(packed.a, (Codes{1, -2, 1, 0}));
  EXPECT_EQ(packed.b, (Codes{7, -8, 3}));
}

TEST(Lqer, FactorsAndPacksAsTheOriginal) {
  const auto golden = testing::read_safetensors(FAIRWAY_GOLDEN_DIR "/gptq.safetensors");
  const auto e = golden.floats("lqer/E"), a = golden.floats("lqer/A"), b = golden.floats("lqer/B");
  base::ThreadPool one(1), three(3);
  const auto f = low_rank(e, 160, 4, one);
  EXPECT_EQ(low_rank(e, 160, 4, three).a, f.a);
  const auto product = [](const std::vector<float>& x, const std::vector<float>& y, std::size_t r,
                          std::size_t c) {
    double sum = 0;
    for (std::size_t k = 0; k < 4; ++k) sum += double{x[r * 4 + k]} * y[k * 160 + c];
    return sum;
  };
  for (std::size_t r = 0; r < 96; ++r)
    for (std::size_t c = 0; c < 160; ++c)
      ASSERT_NEAR(product(f.a, f.b, r, c), product(a, b, r, c), 1e-6) << r << " " << c;
  const auto packed = pack_low_rank({a, b}, 4, 64);
  expect_codes(packed.a, golden.at("lqer/qA").as<std::int8_t>(), "A");
  expect_codes(packed.b, golden.at("lqer/qB").as<std::int8_t>(), "B");
  EXPECT_EQ(packed.a_scale.bits, golden.at("lqer/sA").as<std::uint16_t>()[0]);
  const auto scales = golden.at("lqer/sB").as<std::uint16_t>();
  ASSERT_EQ(packed.b_scales.size(), scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i) EXPECT_EQ(packed.b_scales[i].bits, scales[i]);
}

TEST_F(Corrections, ColumnsOfTheLargestProductsStandOnTheFinerGrid) {
  const std::map<std::string, std::vector<double>> expected = {
      {"tok_emb.weight", {3.145692825317383, 5.404244422912598}},
      {"blocks.0.mlp.fc.weight", {3.406899929046631, 3.2791991233825684}},
      {"blocks.1.attn.c_q.weight", {3.293710708618164, 3.515385389328003}}};
  for (std::size_t i = 0; i < infos_.size(); ++i) {
    const auto& name = infos_[i].name;
    const auto scores = group_scores(values_[i], 128, hessians_.at(name), 64);
    ASSERT_EQ(scores.size(), 2u);
    for (std::size_t g = 0; g < 2; ++g)
      EXPECT_NEAR(scores[g], expected.at(name)[g], 1e-5 * expected.at(name)[g]) << name;
  }
  policy_.awq = {1, 64};
  for (const auto& t : quantized()) expect_grid("awq", t);
  policy_.awq = {2, 64};
  for (const auto& t : quantized()) expect_grid("awq2", t);
  policy_.awq = {};
  for (const auto& t : quantized()) expect_grid("no_awq", t);
}

TEST_F(Corrections, ErrorsArePutBackAsTheOriginalDoesBehindAwq) {
  policy_.awq = {1, 64};
  policy_.lqer = {3, 4, 32};
  const auto tensors = quantized();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& t = tensors[i];
    const auto key = "awq/" + t.name;
    base::ThreadPool pool(1);
    auto f = low_rank(residual(i, t), 128, 4, pool);
    const auto packed = pack_low_rank(f, 4, 32);
    EXPECT_EQ(packed.a, t.low_rank.a);
    EXPECT_EQ(packed.b, t.low_rank.b);
    auto original = t;  // with its integers, of which a tie may be another
    original.q = golden_.at(key + ".q").as<std::int8_t>();
    f = low_rank(residual(i, original), 128, 4, pool);
    const auto turned = signs(key, f, 4);
    for (std::size_t k = 0; k < f.a.size(); ++k) f.a[k] *= turned[k % 4];
    for (std::size_t k = 0; k < f.b.size(); ++k) f.b[k] *= turned[k / 128];
    const auto same = pack_low_rank(f, 4, 32);
    expect_codes(same.a, golden_.at(key + ".lqA_a").as<std::int8_t>(), key + " A");
    expect_codes(same.b, golden_.at(key + ".lqB_a").as<std::int8_t>(), key + " B");
    const auto scales = golden_.at(key + ".lqBs_a").as<std::uint16_t>();
    ASSERT_EQ(same.b_scales.size(), scales.size());
    for (std::size_t k = 0; k < scales.size(); ++k)
      EXPECT_NEAR(same.b_scales[k].bits, scales[k], 1) << key << " " << k;
    EXPECT_NEAR(same.a_scale.bits, golden_.at(key + ".lqAs_a").as<std::uint16_t>()[0], 1) << key;
  }
}

TEST_F(Corrections, TheTensorWithTheLargestErrorIsChosen) {
  policy_.awq = {2, 64};
  policy_.lqer = {1, 2, 32};
  for (const auto& t : quantized()) {
    const bool chosen = golden_.has("awq2/" + t.name + ".lqA_a");
    EXPECT_EQ(t.low_rank.rank, chosen ? 2 : 0) << t.name;
    const auto scales = chosen ? golden_.at("awq2/" + t.name + ".lqBs_a").elements() : 0;
    EXPECT_EQ(std::ssize(t.low_rank.b_scales), scales);
  }
}

TEST_F(Corrections, BringWeightsCloserAndDependOnNoThreads) {
  const auto error = [&](std::size_t i, const QuantizedTensor& t) {
    base::ThreadPool pool(2);
    std::vector<float> back(values_[i].size());
    dequantize(t, back, pool);
    double sum = 0;
    for (std::size_t k = 0; k < back.size(); ++k) sum += std::pow(double{back[k]} - values_[i][k], 2);
    return sum;
  };
  const auto plain = quantized();
  policy_.lqer = {3, 8, 64};
  const auto put_back = quantized();
  const auto again = quantized(3);
  for (std::size_t i = 0; i < plain.size(); ++i) {
    EXPECT_LT(error(i, put_back[i]), 0.95 * error(i, plain[i])) << plain[i].name;
    EXPECT_EQ(again[i].low_rank.a, put_back[i].low_rank.a);
    EXPECT_EQ(again[i].low_rank.b, put_back[i].low_rank.b);
    EXPECT_EQ(again[i].q, put_back[i].q);
  }
}

}  // namespace
}  // namespace fairway::quant
