// Whole models on a GPU: against the originals' numbers in fp32, against our CPU in bf16.
#include "fairway/base/random.h"
#include "fairway/pipeline/explain.h"
#include "fairway/pipeline/recipe.h"
#include "fairway/pipeline/train_backend.h"
#include "gpu.h"
#include "model/support.h"

#include <cstring>

namespace fairway::testing {
namespace {

/// A training program with everything around it, on one device.
class Trained {
 public:
  Trained(const model::ModelConfig& config, pipeline::Engine& engine, tensor::DType dtype, int rows,
          bool fold, int q = 0, bool fuse = false)
      : store(model::make_layout(config), engine.device(), true), plan(store, engine.runtime()) {
    model::BuildOptions build;
    build.rows = rows;
    build.dtype = refresh.dtype = dtype;
    build.fold_scales = refresh.fold_scales = fold;
    if (fuse) build.fuse = model::Fusion::all();
    if (q) refresh.quantize = [q](std::string_view) { return q; };
    if (fold || q || dtype != tensor::DType::f32) {
      store.add_working_copy(dtype);
      before = &plan.add(model::build_refresh(config, store.layout(), refresh));
    }
    if (fold) after = &plan.add(model::build_unfold(config, store.layout(), refresh));
    program = &plan.add(model::build(config, store.layout(), build));
    plan.allocate();
  }

  /// Gradients from zero; the loss.
  double run(const graph::ParameterStore& host, const std::vector<std::int32_t>& tokens,
             const std::vector<std::int32_t>& targets) {
    pipeline::write_weights(store, pipeline::read_weights(host));
    store.zero_gradients();
    if (before) before->run();
    program->write<std::int32_t>("tokens", tokens);
    program->write<std::int32_t>("targets", targets);
    program->fill("weights", 1.0f / static_cast<float>(tokens.size()));
    program->run();
    float loss = 0;
    program->read("loss", std::span(&loss, 1));
    if (after) after->run();
    tensor::synchronize(store.device());
    return static_cast<double>(loss);
  }

  std::vector<float> gradients() const {
    const auto view = store.flat_gradients();
    std::vector<float> flat(static_cast<std::size_t>(view.elements()));
    tensor::copy_bytes({}, flat.data(), store.device(), view.data, view.bytes());
    return flat;
  }
  std::vector<float> gradient(const graph::Parameter& p) const {
    const auto all = gradients();
    return {all.begin() + p.offset, all.begin() + p.offset + p.elements()};
  }

  graph::ParameterStore store;
  graph::Plan plan;
  model::RefreshOptions refresh;
  graph::Program *program = nullptr, *before = nullptr, *after = nullptr;
};

struct GoldenCase {
  std::string file, parameters, activation;
  int q = 0;
  bool fold = false;
};

void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.file; }

class GoldenOnGpu : public OnGpu, public ::testing::WithParamInterface<GoldenCase> {};

TEST_P(GoldenOnGpu, LossAndGradientsInFp32) {
  const auto& c = GetParam();
  pipeline::Engine gpu(on(first_gpu));
  const auto file = golden(c.file);
  const auto config = golden_config(file, c.activation);
  graph::ParameterStore host(model::make_layout(config), {}, false);
  load(host, golden(c.parameters));
  Trained trained(config, gpu, tensor::DType::f32, static_cast<int>(file.at("input_ids").shape[0]), c.fold,
                  c.q);
  const auto tokens = file.at("input_ids").as<std::int32_t>(),
             targets = file.at("target_ids").as<std::int32_t>();
  const double loss = trained.run(host, tokens, targets), expected = file.floats("loss")[0];
  EXPECT_NEAR(loss, expected, 1e-4 * expected);
  int compared = 0;
  for (const auto& p : trained.store.layout().parameters()) {
    if (!file.has("grad/" + p.name)) continue;
    EXPECT_LE(max_relative(trained.gradient(p), file.floats("grad/" + p.name)), 1e-4) << p.name;
    ++compared;
  }
  EXPECT_GE(compared, 20);
}

INSTANTIATE_TEST_SUITE_P(
    Family, GoldenOnGpu,
    ::testing::Values(GoldenCase{"sp1024_pr518", "sp1024_params", "leaky_square"},
                      GoldenCase{"sp1024_pr518", "sp1024_params", "leaky_square", 0, true},
                      GoldenCase{"sp1024_pr518_qat", "sp1024_params", "leaky_square", 31, true},
                      GoldenCase{"sp1024_pr417", "sp1024_params", "relu_square"},
                      GoldenCase{"sp1024_pr518_long", "sp1024_params", "leaky_square", 0, true},
                      GoldenCase{"sp1024_plain_no_ve_no_xsa", "sp1024_plain_no_ve_no_xsa", "relu_square"}),
    [](const auto& test) {
      return test.param.file + (test.param.q ? "_quantised" : "") + (test.param.fold ? "_folded" : "");
    });

class BigModelOnGpu : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (IsSkipped()) return;
    config_ = pipeline::load_recipe("cosine_ttt50", {}).recipe.model;
    gpu_ = std::make_unique<pipeline::Engine>(on(first_gpu));
    host_ = std::make_unique<graph::ParameterStore>(model::make_layout(config_), tensor::Device{}, false);
    model::initialise(*host_, config_, 1337, gpu_->pool());
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
  model::ModelConfig config_;
  std::unique_ptr<pipeline::Engine> gpu_;
  std::unique_ptr<graph::ParameterStore> host_;
  std::vector<std::int32_t> text_, tokens_, targets_;
};

double norm(const std::vector<float>& v) {
  double sum = 0;
  for (float x : v) sum += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(sum);
}

TEST_F(BigModelOnGpu, Bf16FollowsTheCpu) {
  Trained narrow(config_, *gpu_, tensor::DType::bf16, rows_, true);
  const double loss = narrow.run(*host_, tokens_, targets_);
  const auto mine = narrow.gradients();
  pipeline::Engine cpu(on({}));
  Trained reference(config_, cpu, tensor::DType::f32, rows_, false);
  const double expected = reference.run(*host_, tokens_, targets_);
  const auto theirs = reference.gradients();
  EXPECT_NEAR(loss, expected, 1e-3 * expected);
  double worst_matrix = 0, worst_cosine = 1, worst_scalar = 0;
  std::vector<float> singles_difference, singles;  // each a sum over all positions that nearly cancels
  std::string matrix_name, scalar_name;
  for (const auto& p : narrow.store.layout().parameters()) {
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
      std::cout << "[cuda] " << p.name << " " << a[0] << " against " << b[0] << '\n';
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
  std::cout << "[cuda] 27 M, bf16 against the CPU: loss " << loss << " against " << expected << ", matrices "
            << worst_matrix << " (" << matrix_name << "), cosine " << worst_cosine << ", scalars "
            << worst_scalar << " (" << scalar_name << ")\n";
}

TEST_F(BigModelOnGpu, ActivationInsideProductsFollowsSeparatePasses) {
  Trained fused(config_, *gpu_, tensor::DType::bf16, rows_, true, 0, true);
  Trained plain(config_, *gpu_, tensor::DType::bf16, rows_, true);
  const double expected = plain.run(*host_, tokens_, targets_), loss = fused.run(*host_, tokens_, targets_);
  const auto mine = fused.gradients(), theirs = plain.gradients();
  EXPECT_NEAR(loss, expected, 1e-3 * expected);
  double worst = 0;
  for (const auto& p : fused.store.layout().parameters()) {
    if (p.group == graph::Group::scalar) continue;
    std::vector<float> difference, whole(theirs.begin() + p.offset, theirs.begin() + p.offset + p.elements());
    for (std::int64_t i = 0; i < p.elements(); ++i) {
      const auto at = static_cast<std::size_t>(p.offset + i);
      difference.push_back(mine[at] - theirs[at]);
    }
    const double relative = norm(difference) / norm(whole);
    EXPECT_LE(relative, 3e-2) << p.name;
    worst = std::max(worst, relative);
  }
  std::cout << "[cuda] 27 M, fused activation: loss " << loss << " against " << expected << ", matrices "
            << worst << '\n';
  for (int i = 0; i < 3; ++i) {  // recorded, then replayed
    fused.run(*host_, tokens_, targets_);
    const auto again = fused.gradients();
    EXPECT_EQ(std::memcmp(mine.data(), again.data(), mine.size() * sizeof(float)), 0) << i;
  }
}

TEST_F(BigModelOnGpu, RecordedRunsRepeatTheFirstToTheByte) {
  Trained trained(config_, *gpu_, tensor::DType::bf16, rows_, true);
  trained.run(*host_, tokens_, targets_);  // launched one by one
  const auto first = trained.gradients();
  for (int i = 0; i < 3; ++i) {  // recorded, then replayed
    trained.run(*host_, tokens_, targets_);
    const auto again = trained.gradients();
    EXPECT_EQ(std::memcmp(first.data(), again.data(), first.size() * sizeof(float)), 0) << i;
  }
}

TEST_F(BigModelOnGpu, WithoutTurnsTheSumsAreTheSameButForRounding) {
  Trained ordered(config_, *gpu_, tensor::DType::bf16, rows_, true);
  ordered.run(*host_, tokens_, targets_);
  gpu_->cuda()->set_ordered_sums(false);
  Trained any(config_, *gpu_, tensor::DType::bf16, rows_, true);
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
  Trained first(config_, *gpu_, tensor::DType::bf16, rows_, true);
  Trained second(config_, *gpu_, tensor::DType::bf16, rows_, true);
  first.run(*host_, tokens_, targets_), second.run(*host_, tokens_, targets_);
  EXPECT_EQ(first.gradients(), second.gradients());
}

}  // namespace
}  // namespace fairway::testing
