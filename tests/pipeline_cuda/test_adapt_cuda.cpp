// The four published protocols on a GPU against the CPU, small and in fp32, and twice the same bytes.
#include "adapt/small.h"
#include "fairway/exec/form.h"
#include "gpu.h"
#include "support/compare.h"

#include <cmath>
#include <cstring>

namespace fairway::adapt::testing {
namespace {

using fairway::testing::first_gpu;

class AdaptOnGpu : public fairway::testing::OnGpu {
 protected:
  EvaluateResult run(const Protocol& protocol, tensor::Device device) {
    exec::Engine engine(on(device));
    const auto config = small_config();
    const auto weights = small_weights(config);
    const auto tokens = small_text(37 * config.window + 5);
    const bool by_targets = protocol.shards == Shards::targets;
    auto options = small_options(0, by_targets ? score::Tail::published : score::Tail::clean);
    return evaluate(protocol, config, weights, engine, std::span<const std::int32_t>(tokens), options);
  }
  void follows_the_cpu(const Protocol& protocol) {
    const auto cpu = run(protocol, {}), gpu = run(protocol, first_gpu), again = run(protocol, first_gpu);
    ASSERT_EQ(cpu.nll.size(), gpu.nll.size());
    EXPECT_EQ(std::memcmp(gpu.nll.data(), again.nll.data(), gpu.nll.size() * sizeof(float)), 0)
        << "a second run gives other scores";
    fairway::testing::Largest worst;
    for (std::size_t i = 0; i < cpu.nll.size(); ++i) {
      ASSERT_EQ(std::isnan(cpu.nll[i]), std::isnan(gpu.nll[i])) << i;
      if (!std::isnan(cpu.nll[i]))
        worst.see(std::abs(static_cast<double>(cpu.nll[i]) - static_cast<double>(gpu.nll[i])));
    }
    EXPECT_LT(worst.value(), 5e-3);
    EXPECT_EQ(cpu.score.verdict.text(), gpu.score.verdict.text());
    ASSERT_EQ(cpu.training.size(), gpu.training.size());
    for (std::size_t t = 0; t < cpu.training.size(); ++t)
      EXPECT_NEAR(cpu.training[t].loss.back(), gpu.training[t].loss.back(), 2e-3) << cpu.training[t].what;
  }
};

TEST_F(AdaptOnGpu, TwoPhases) { follows_the_cpu(two_phase(2)); }
TEST_F(AdaptOnGpu, FullSgd) { follows_the_cpu(full_sgd(2)); }
TEST_F(AdaptOnGpu, StreamingMinimum) { follows_the_cpu(streaming_minimum(2)); }
TEST_F(AdaptOnGpu, CosineAdamw) { follows_the_cpu(cosine_adamw(2)); }

/// What the program scores with is a distribution, also where its logits are sums of bf16 products.
TEST_F(AdaptOnGpu, DistributionsSumToOneInBf16) {
  exec::Engine engine(on(first_gpu));
  auto config = small_config();
  config.width = 64;
  config.heads = config.kv_heads = 1;
  const auto weights = small_weights(config);
  const auto tokens = small_text(20 * config.window + 1);
  auto options = small_options(0, score::Tail::published);
  ASSERT_EQ(exec::Form::on(engine, config).dtype, tensor::DType::bf16);
  options.audit_windows = 5;
  const auto result =
      evaluate(streaming_minimum(1), config, weights, engine, std::span<const std::int32_t>(tokens), options);
  EXPECT_GE(result.audit.distributions, config.window);
  EXPECT_LE(result.audit.worst, 1e-5);
  EXPECT_GT(result.audit.worst, 0) << "nothing was summed";
}

}  // namespace
}  // namespace fairway::adapt::testing
