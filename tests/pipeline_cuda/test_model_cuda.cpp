// The 27 M model on a GPU in bf16, against our CPU in fp32.
#include "fairway/base/random.h"
#include "fairway/pipeline/measure/explain.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/train/train_backend.h"
#include "gpu.h"
#include "trained.h"

#include <cmath>
#include <cstring>
#include <iostream>

namespace fairway::testing {
namespace {

class BigModelOnGpu : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (IsSkipped()) return;
    config_ = pipeline::load_recipe("cosine_ttt50", {}).recipe.model;
    gpu_ = std::make_unique<exec::Engine>(on(first_gpu));
    host_ = std::make_unique<graph::ParameterStore>(model::make_layout(config_), tensor::Device{}, false);
    model::initialise(*host_, 1337, gpu_->pool());
    // Away from the initial values, where whole gradients are zero.
    const base::Random random(1, "away");
    auto values = host_->flat_values().span<float>();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += 0.02f * static_cast<float>(random.normal(i));
    const auto n = static_cast<std::size_t>(rows_) * 2048;
    const base::Random words(2, "words");
    for (std::size_t i = 0; i <= n; ++i)  // with something to learn: pairs repeat
      text_.push_back(static_cast<std::int32_t>(words.bits(i / 2 % 400) >> 4) % 1024);
    tokens_.assign(text_.begin(), text_.end() - 1);
    targets_.assign(text_.begin() + 1, text_.end());
  }

  const int rows_ = 2;
  const Trained::Form bf16_{.dtype = tensor::DType::bf16, .rows = rows_, .passes = graph::all_passes()};
  model::ModelConfig config_;
  std::unique_ptr<exec::Engine> gpu_;
  std::unique_ptr<graph::ParameterStore> host_;
  std::vector<std::int32_t> text_, tokens_, targets_;
};

double norm(const std::vector<float>& v) {
  double sum = 0;
  for (float x : v) sum += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(sum);
}

/// How far a form of the programs is from the CPU's gradients, within the bounds of bf16.
void expect_near(const std::string& what, const graph::ParameterLayout& layout,
                 const std::vector<float>& mine, const std::vector<float>& theirs) {
  SCOPED_TRACE(what);
  double worst_matrix = 0, worst_cosine = 1, worst_scalar = 0;
  std::vector<float> singles_difference, singles;  // each a sum over all positions that nearly cancels
  std::string matrix_name, scalar_name;
  for (const auto& p : layout.parameters()) {
    const std::vector<float> a(mine.begin() + p.offset, mine.begin() + p.offset + p.elements());
    const std::vector<float> b(theirs.begin() + p.offset, theirs.begin() + p.offset + p.elements());
    std::vector<float> difference(a.size());
    double dot = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      difference[i] = a[i] - b[i];
      dot += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    const double relative = norm(difference) / norm(b), cosine = dot / (norm(a) * norm(b));
    if (p.elements() == 1) {
      singles_difference.push_back(difference[0]);
      singles.push_back(b[0]);
      std::cout << "[cuda] " << what << ": " << p.name << " " << a[0] << " against " << b[0] << '\n';
    } else if (p.group == graph::Group::scalar) {
      EXPECT_LE(relative, 1e-1) << p.name;
      if (relative > worst_scalar) worst_scalar = relative, scalar_name = p.name;
    } else {
      EXPECT_LE(relative, 3e-2) << p.name;
      EXPECT_GE(cosine, 0.999) << p.name;
      if (relative > worst_matrix) worst_matrix = relative, matrix_name = p.name;
      worst_cosine = std::min(worst_cosine, cosine);
    }
  }
  EXPECT_LE(norm(singles_difference) / norm(singles), 1e-1);
  std::cout << "[cuda] " << what << ": matrices " << worst_matrix << " (" << matrix_name << "), cosine "
            << worst_cosine << ", scalars " << worst_scalar << " (" << scalar_name << "), single ones "
            << norm(singles_difference) / norm(singles) << '\n';
}

/// The form that runs have, with everything fused, and the one with a pass for every operator.
TEST_F(BigModelOnGpu, Bf16FollowsTheCpu) {
  exec::Engine cpu(on({}));
  Trained reference(config_, cpu, {.rows = rows_});
  const double expected = reference.run(*host_, tokens_, targets_);
  const auto theirs = reference.gradients();
  for (const bool fuse : {true, false}) {
    Trained narrow(config_, *gpu_,
                   {.dtype = tensor::DType::bf16,
                    .rows = rows_,
                    .passes = fuse ? graph::all_passes() : graph::Passes{}});
    const double loss = narrow.run(*host_, tokens_, targets_);
    const std::string what = fuse ? "27 M in bf16, fused" : "27 M in bf16, separate passes";
    std::cout << "[cuda] " << what << ": loss " << loss << ", on the CPU " << expected << '\n';
    EXPECT_NEAR(loss, expected, 1e-3 * expected);
    expect_near(what, narrow.store.layout(), narrow.gradients(), theirs);
  }
}

TEST_F(BigModelOnGpu, RecordedRunsRepeatTheFirstToTheByte) {
  Trained trained(config_, *gpu_, bf16_);
  trained.run(*host_, tokens_, targets_);  // launched one by one
  const auto first = trained.gradients();
  for (int i = 0; i < 3; ++i) {  // recorded, then replayed
    trained.run(*host_, tokens_, targets_);
    const auto again = trained.gradients();
    EXPECT_EQ(std::memcmp(first.data(), again.data(), first.size() * sizeof(float)), 0) << i;
  }
}

TEST_F(BigModelOnGpu, WithoutTurnsTheSumsAreTheSameButForRounding) {
  Trained ordered(config_, *gpu_, bf16_);
  ordered.run(*host_, tokens_, targets_);
  gpu_->cuda()->set_deterministic(false);
  Trained any(config_, *gpu_, bf16_);
  any.run(*host_, tokens_, targets_);
  const auto mine = any.gradients(), theirs = ordered.gradients();
  std::vector<float> difference(mine.size());
  for (std::size_t i = 0; i < mine.size(); ++i) difference[i] = mine[i] - theirs[i];
  EXPECT_LE(norm(difference), 1e-2 * norm(theirs));
}

TEST_F(BigModelOnGpu, ThePriceOfOrderIsMeasured) {
  pipeline::RecipeOptions options;
  options.set = {"train.micro_batch=2", "train.batch_tokens=16384"};
  const auto recipe = pipeline::load_recipe("cosine_ttt50", options).recipe;
  EXPECT_FALSE(pipeline::explain(recipe, false, *gpu_).order);
  const auto price = pipeline::explain(recipe, true, *gpu_).order;
  ASSERT_TRUE(price);
  EXPECT_EQ(price->steps, config_.layers);
  EXPECT_GT(price->ordered_seconds, 0);
  EXPECT_GT(price->any_order_seconds, 0);
  EXPECT_GT(price->program_seconds, price->ordered_seconds);
  std::cout << "[cuda] " << pipeline::to_text(*price) << '\n';
  // Afterwards sums have their order again.
  Trained first(config_, *gpu_, bf16_);
  Trained second(config_, *gpu_, bf16_);
  first.run(*host_, tokens_, targets_), second.run(*host_, tokens_, targets_);
  EXPECT_EQ(first.gradients(), second.gradients());
}

}  // namespace
}  // namespace fairway::testing
