// Counts, initial values, initial loss, and the modes against each other.

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "fairway/base/random.h"
#include "fairway/graph/compute_weights.h"
#include "model/support.h"

namespace fairway::testing {
namespace {

using model::ModelConfig;

ModelConfig pr398() {
  ModelConfig c;
  c.ve_dim = 0;
  c.ve_layers.clear();
  c.xsa_layers.clear();
  c.activation = model::Activation::relu_square;
  return c;
}

ModelConfig base_model() {
  ModelConfig c;
  c.layers = 9;
  c.mlp_mult = 2;
  c.activation = model::Activation::relu_square;
  c.window = 1024;
  c.rope_dims = 64;
  c.ln_scale = false;
  c.smear = false;
  c.bigram_rows = 0;
  c.ve_dim = 0;
  c.ve_layers.clear();
  c.xsa_layers.clear();
  return c;
}

/// A small member of the family with every part.
ModelConfig small() {
  ModelConfig c;
  c.vocab_size = 64;
  c.layers = 4;
  c.width = 48;
  c.heads = 6;
  c.kv_heads = 3;
  c.window = 24;
  c.rope_dims = 4;
  c.rope_rescale_length = 16;
  c.bigram_rows = 37;
  c.bigram_dim = 12;
  c.ve_dim = 10;
  c.ve_layers = {1, 3};
  c.xsa_layers = {2, 3};
  return c;
}

class Family : public ::testing::Test {
 protected:
  base::ThreadPool pool_{2};
  std::vector<std::int32_t> tokens(int n, int vocab) {
    const base::Random random(7, "tokens");
    std::vector<std::int32_t> result(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < result.size(); ++i)
      result[i] = static_cast<std::int32_t>(random.below(i, static_cast<std::uint64_t>(vocab)));
    return result;
  }
  /// Every parameter moved off its initial value, so that no branch is silent.
  graph::ParameterStore disturbed(const ModelConfig& c, bool gradients = false) {
    graph::ParameterStore store(model::make_layout(c), {}, gradients);
    model::initialise(store, 1, pool_);
    const base::Random random(3, "disturb");
    auto values = store.flat_values().span<float>();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += 0.2f * static_cast<float>(random.normal(i));
    return store;
  }
};

TEST_F(Family, ParameterCounts) {
  EXPECT_EQ(model::make_layout(ModelConfig{}).count(), 26'993'756);
  EXPECT_EQ(model::make_layout(pr398()).count(), 26'829'913);
  EXPECT_EQ(model::make_layout(base_model()).count(), 17'059'912);
  const auto layout = model::make_layout(ModelConfig{});
  std::int64_t count[graph::group_count] = {};
  for (const auto& p : layout.parameters()) count[static_cast<int>(p.group)] += p.elements();
  EXPECT_EQ(count[0], 26'050'560);
  EXPECT_EQ(count[1], 917'504);
  EXPECT_EQ(count[2], 25'692);
}

/// What the published scripts read from names is declared here (docs/spec/quantization.md section 1,
/// docs/spec/ttt.md).
TEST_F(Family, RolesAreThoseOfThePublishedNames) {
  auto c = small();
  c.memory_tokens = 3;
  const auto layout = model::make_layout(c);
  for (const auto& p : layout.parameters()) {
    const auto has = [&](const char* part) { return p.name.find(part) != p.name.npos; };
    using enum graph::Role;
    const auto expected = has(".embed.") || has("tok_emb")                            ? embedding
                          : has(".attn.")                                             ? attention
                          : has(".mlp.")                                              ? mlp
                          : has(".proj.")                                             ? projection
                          : has("attn_scale") || has("mlp_scale") || has("resid_mix") ? scale
                                                                                      : other;
    EXPECT_EQ(static_cast<int>(p.role), static_cast<int>(expected)) << p.name;
    EXPECT_EQ(p.layer, has("blocks.") ? p.name[7] - '0' : -1) << p.name;
    EXPECT_EQ(p.multiplied, p.group == graph::Group::matrix || p.name == "tok_emb.weight") << p.name;
  }
  EXPECT_EQ(layout.multiplied().size(), 4u * 4 + 3);
}

TEST_F(Family, InitialLossIsThatOfAUniformGuess) {
  auto c = small();
  c.vocab_size = 1024;
  graph::ParameterStore store(model::make_layout(c), {}, true);
  model::initialise(store, 1337, pool_);
  graph::Plan plan(store, runtime_on(pool_));
  model::BuildOptions options;
  options.rows = 4;
  auto& program = plan.add(model::build(c, store.layout(), options));
  plan.allocate();
  const auto n = 4 * c.window;
  const auto ids = tokens(n + 1, c.vocab_size);
  std::copy_n(ids.begin(), n, program.view("tokens").span<std::int32_t>().begin());
  std::copy_n(ids.begin() + 1, n, program.view("targets").span<std::int32_t>().begin());
  auto weights = program.view("weights").span<float>();
  std::fill(weights.begin(), weights.end(), 1.0f / static_cast<float>(n));
  program.run();
  EXPECT_NEAR(program.view("loss").as<float>()[0], std::log(1024.0), 0.02);
  // docs/spec/model.md section 14: in the first backward pass only these have a gradient.
  for (const auto& p : store.layout().parameters()) {
    double norm = 0;
    for (float g : store.gradient(p.name).span<float>()) norm += static_cast<double>(g) * g;
    const bool speaks = p.name == "tok_emb.weight" || p.name == "bigram.embed.weight" ||
                        p.name == "smear.gate" || p.name == "skip_weights" ||
                        p.name.ends_with("attn.proj.weight") || p.name.ends_with("mlp.proj.weight") ||
                        p.name.ends_with("resid_mix");
    if (speaks)
      EXPECT_GT(norm, 0) << p.name;
    else
      EXPECT_EQ(norm, 0) << p.name;
  }
}

TEST_F(Family, ZLossIsPartOfTrainingOnly) {
  const auto c = small();
  auto store = disturbed(c, true);
  const auto ids = tokens(c.window, c.vocab_size);
  auto nll = [&](model::Mode mode, float z_loss) {
    model::BuildOptions options;
    options.mode = mode;
    options.z_loss = z_loss;
    graph::Plan plan(store, runtime_on(pool_));
    auto& program = plan.add(model::build(c, store.layout(), options));
    plan.allocate();
    std::ranges::copy(ids, program.view("tokens").span<std::int32_t>().begin());
    std::ranges::copy(ids, program.view("targets").span<std::int32_t>().begin());
    if (mode == model::Mode::train) std::ranges::fill(program.view("weights").span<float>(), 1.0f);
    program.run();
    const auto values = program.view("nll").span<float>();
    return std::vector<float>(values.begin(), values.end());
  };
  const auto plain = nll(model::Mode::train, 0), some = nll(model::Mode::train, 0.1f),
             twice = nll(model::Mode::train, 0.2f);
  for (std::size_t i = 0; i < plain.size(); ++i) {
    EXPECT_GT(some[i], plain[i]) << i;
    EXPECT_NEAR(twice[i] - plain[i], 2 * (some[i] - plain[i]), 1e-4) << i;
  }
  EXPECT_EQ(nll(model::Mode::score, 0.1f), nll(model::Mode::score, 0));
}

TEST_F(Family, MemoryTokensStandInThePlaceOfTheFirstOnes) {
  auto c = small();
  const auto count = model::make_layout(c).count();
  c.memory_tokens = 3;
  EXPECT_EQ(model::make_layout(c).count(), count + 3 * c.width);
  auto store = disturbed(c);
  graph::Plan plan(store, runtime_on(pool_));
  model::BuildOptions options;
  options.mode = model::Mode::logits;
  auto& program = plan.add(model::build(c, store.layout(), options));
  plan.allocate();
  const auto ids = tokens(c.window, c.vocab_size);
  auto logits = [&] {
    std::ranges::copy(ids, program.view("tokens").span<std::int32_t>().begin());
    program.run();
    const auto values = program.view("logits").span<float>();
    return std::vector<float>(values.begin(), values.end());
  };
  const auto base = logits();
  store.value("memory_tokens").span<float>()[2 * 48 + 5] += 1.0f;
  const auto moved = logits();
  const auto V = static_cast<std::size_t>(c.vocab_size);
  EXPECT_TRUE(std::equal(base.begin(), base.begin() + 2 * 64, moved.begin())) << "causal";
  for (std::size_t t = 2; t < 24; ++t)
    EXPECT_FALSE(std::equal(base.begin() + static_cast<std::ptrdiff_t>(t * V),
                            base.begin() + static_cast<std::ptrdiff_t>((t + 1) * V),
                            moved.begin() + static_cast<std::ptrdiff_t>(t * V)))
        << t;
}

TEST_F(Family, OverwrittenTokensSayNothingWhereNothingElseReadsThem) {
  auto c = small();
  c.memory_tokens = 3;
  c.bigram_rows = 0;
  c.ve_dim = 0;
  c.ve_layers.clear();
  auto store = disturbed(c);
  graph::Plan plan(store, runtime_on(pool_));
  model::BuildOptions options;
  options.mode = model::Mode::logits;
  auto& program = plan.add(model::build(c, store.layout(), options));
  plan.allocate();
  auto ids = tokens(c.window, c.vocab_size);
  auto logits = [&] {
    std::ranges::copy(ids, program.view("tokens").span<std::int32_t>().begin());
    program.run();
    const auto values = program.view("logits").span<float>();
    return std::vector<float>(values.begin(), values.end());
  };
  const auto base = logits();
  for (std::size_t t = 0; t < 3; ++t) ids[t] = (ids[t] + 1) % c.vocab_size;
  EXPECT_EQ(logits(), base);
  ids[3] = (ids[3] + 1) % c.vocab_size;
  EXPECT_NE(logits(), base);
}

TEST_F(Family, GradientOfMemoryTokens) {
  auto c = small();
  c.memory_tokens = 2;
  auto store = disturbed(c, true);
  graph::Plan plan(store, runtime_on(pool_));
  model::BuildOptions options;
  options.rows = 2;
  auto& program = plan.add(model::build(c, store.layout(), options));
  plan.allocate();
  const auto ids = tokens(2 * c.window, c.vocab_size);
  auto loss = [&] {
    store.zero_gradients();
    std::ranges::copy(ids, program.view("tokens").span<std::int32_t>().begin());
    std::ranges::copy(ids, program.view("targets").span<std::int32_t>().begin());
    std::ranges::fill(program.view("weights").span<float>(), 0.02f);
    program.run();
    return static_cast<double>(program.view("loss").as<float>()[0]);
  };
  loss();
  const auto g = store.gradient("memory_tokens").span<float>();
  const std::vector<float> gradient(g.begin(), g.end());
  // Along the gradient: a step h changes the loss by h times its squared length.
  auto values = store.value("memory_tokens").span<float>();
  double square = 0;
  for (float v : gradient) square += static_cast<double>(v) * v;
  ASSERT_GT(square, 0);
  const double h = 0.02 / std::sqrt(square);
  auto move = [&](double by) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += static_cast<float>(by * gradient[i]);
  };
  move(h);
  const double up = loss();
  move(-2 * h);
  const double down = loss();
  EXPECT_NEAR((up - down) / (2 * h * square), 1, 0.02);
}

TEST_F(Family, InitialValues) {
  ModelConfig c;
  c.layers = 2;
  c.ve_layers = {1};
  c.xsa_layers = {1};
  graph::ParameterStore store(model::make_layout(c), {}, false);
  model::initialise(store, 1337, pool_);
  auto moments = [&](const char* name) {
    const auto v = store.value(name).span<float>();
    double sum = 0, squares = 0;
    for (float x : v) sum += x, squares += static_cast<double>(x) * x;
    return std::pair{sum / static_cast<double>(v.size()), std::sqrt(squares / static_cast<double>(v.size()))};
  };
  EXPECT_NEAR(moments("tok_emb.weight").first, 0, 5e-5);
  EXPECT_NEAR(moments("tok_emb.weight").second, 0.005, 5e-5);
  EXPECT_NEAR(moments("ve_shared.embed.weight").second, 0.01, 2e-4);
  EXPECT_EQ(moments("bigram.embed.weight").second, 0);
  EXPECT_EQ(moments("blocks.0.attn.proj.weight").second, 0);
  EXPECT_EQ(moments("blocks.1.mlp.proj.weight").second, 0);
  EXPECT_EQ(store.value("bigram.scale").as<float>()[0], 0.050048828125f);
  EXPECT_EQ(store.value("ve_shared.scale").as<float>()[0], 0.10009765625f);
  EXPECT_EQ(store.value("blocks.0.attn.q_gain").as<float>()[3], 1.5f);
  const auto mix = store.value("blocks.1.resid_mix").span<float>();
  EXPECT_EQ(mix[5], 1.0f);
  EXPECT_EQ(mix[512 + 5], 0.0f);

  auto orthonormal = [&](const char* name, double gain) {
    const auto v = store.value(name);
    const auto rows = v.shape()[0], columns = v.shape()[1];
    const auto w = v.span<float>();
    const bool tall = rows >= columns;
    const auto n = tall ? columns : rows, length = tall ? rows : columns;
    Largest worst;
    for (std::int64_t i = 0; i < n; i += 7)
      for (std::int64_t j = 0; j < n; j += 5) {
        double dot = 0;
        for (std::int64_t k = 0; k < length; ++k)
          dot += tall ? static_cast<double>(w[static_cast<std::size_t>(k * columns + i)]) *
                            w[static_cast<std::size_t>(k * columns + j)]
                      : static_cast<double>(w[static_cast<std::size_t>(i * columns + k)]) *
                            w[static_cast<std::size_t>(j * columns + k)];
        worst.see(std::abs(dot / (gain * gain) - (i == j ? 1.0 : 0.0)));
      }
    EXPECT_LT(worst.value(), 4e-3) << name;  // the values passed through bf16
  };
  orthonormal("blocks.0.attn.c_q.weight", 1);
  orthonormal("blocks.0.attn.c_k.weight", 1);
  orthonormal("blocks.1.mlp.fc.weight", 1);
  orthonormal("bigram.proj.weight", 1 / std::sqrt(4.0));
  orthonormal("ve_shared.proj.weight", 1 / std::sqrt(4.0));
}

TEST_F(Family, UniformInitialMatricesAreBoundedByTheirInputs) {
  auto c = small();
  c.matrix_init = model::MatrixInit::uniform;
  graph::ParameterStore store(model::make_layout(c), {}, false);
  model::initialise(store, 1337, pool_);
  bool wide = false, tall = false;
  for (const auto& p : store.layout().parameters()) {
    if (p.group != graph::Group::matrix) continue;
    Largest largest;
    for (const float v : store.value(p.name).span<float>()) largest.see(std::abs(static_cast<double>(v)));
    if (largest.value() == 0) continue;  // the projections back into the stream
    const double bound = 1 / std::sqrt(static_cast<double>(p.shape[1]));
    EXPECT_LE(largest.value(), bound * (1 + 0x1p-8)) << p.name;  // rounded to bf16
    EXPECT_GT(largest.value(), bound * 0.95) << p.name;
    wide = wide || p.shape[0] < p.shape[1];
    tall = tall || p.shape[0] > p.shape[1];
  }
  EXPECT_TRUE(wide && tall) << "square matrices alone would not tell rows from columns";
}

TEST_F(Family, InitialValuesDoNotDependOnThreads) {
  const auto c = small();
  graph::ParameterStore a(model::make_layout(c), {}, false), b(model::make_layout(c), {}, false);
  base::ThreadPool one(1), three(3);
  model::initialise(a, 5, one);
  model::initialise(b, 5, three);
  EXPECT_TRUE(std::ranges::equal(a.flat_values().span<float>(), b.flat_values().span<float>()));
  model::initialise(b, 6, three);
  EXPECT_FALSE(std::ranges::equal(a.flat_values().span<float>(), b.flat_values().span<float>()));
}

TEST_F(Family, ScoringTheLastPositionsEqualsScoringAll) {
  const auto c = small();
  auto store = disturbed(c);
  graph::Plan plan(store, runtime_on(pool_));
  model::BuildOptions options;
  options.mode = model::Mode::score;
  options.rows = 3;
  auto& all = plan.add(model::build(c, store.layout(), options));
  options.last = 5;
  auto& last = plan.add(model::build(c, store.layout(), options));
  plan.allocate();
  const auto ids = tokens(3 * c.window, c.vocab_size);
  std::ranges::copy(ids, all.view("tokens").span<std::int32_t>().begin());
  std::ranges::copy(ids, all.view("targets").span<std::int32_t>().begin());
  all.run();
  const auto nll = all.view("nll").span<float>();
  const std::vector<float> expected(nll.begin(), nll.end());
  std::ranges::copy(ids, last.view("tokens").span<std::int32_t>().begin());
  auto targets = last.view("targets").span<std::int32_t>();
  const auto S = static_cast<std::size_t>(c.window);
  for (std::size_t b = 0; b < 3; ++b)
    for (std::size_t i = 0; i < 5; ++i) targets[b * 5 + i] = ids[b * S + S - 5 + i];
  last.run();
  for (std::size_t b = 0; b < 3; ++b)
    for (std::size_t i = 0; i < 5; ++i)
      EXPECT_NEAR(last.view("nll").span<float>()[b * 5 + i], expected[b * S + S - 5 + i], 2e-4)
          << b << ' ' << i;
  EXPECT_LT(last.cost().flops, all.cost().flops);
}

TEST_F(Family, DecodingEqualsTheWholeWindow) {
  const auto c = small();
  auto store = disturbed(c);
  graph::Plan plan(store, runtime_on(pool_));
  model::BuildOptions options;
  options.mode = model::Mode::logits;
  options.rows = 2;
  auto& whole = plan.add(model::build(c, store.layout(), options));
  options.mode = model::Mode::decode;
  options.passes = graph::cpu_passes();
  options.length = 7;
  auto& chunk = plan.add(model::build(c, store.layout(), options));
  options.length = 1;
  auto& single = plan.add(model::build(c, store.layout(), options));
  plan.allocate();
  const auto ids = tokens(2 * c.window, c.vocab_size);
  std::ranges::copy(ids, whole.view("tokens").span<std::int32_t>().begin());
  whole.run();
  const auto logits = whole.view("logits").span<float>();
  const std::vector<float> expected(logits.begin(), logits.end());
  plan.zero_state(model::previous_norm_state);

  const auto S = static_cast<std::size_t>(c.window), V = static_cast<std::size_t>(c.vocab_size);
  std::size_t read = 0;
  while (read < S) {
    const std::size_t n = read < 14 ? 7 : 1;  // two chunks, then token by token
    auto& program = n == 7 ? chunk : single;
    auto in = program.view("tokens").span<std::int32_t>();
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < n; ++i) in[b * n + i] = ids[b * S + read + i];
    std::ranges::fill(program.view("length").span<std::int32_t>(), static_cast<std::int32_t>(read));
    auto previous = program.view("previous").span<std::int32_t>();
    for (std::size_t b = 0; b < 2; ++b) previous[b] = read ? ids[b * S + read - 1] : -1;
    program.run();
    read += n;
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t v = 0; v < V; ++v)
        EXPECT_NEAR(program.view("logits").span<float>()[b * V + v], expected[(b * S + read - 1) * V + v],
                    5e-4)
            << read;
  }
}

TEST_F(Family, FrozenParametersCostNothing) {
  const auto c = small();
  graph::ParameterStore store(model::make_layout(c), {}, true);
  model::BuildOptions options;
  const auto all = model::build(c, store.layout(), options);
  options.trainable = [](std::string_view name) { return name.starts_with("blocks.3.mlp."); };
  const auto some = model::build(c, store.layout(), options);
  int backward_matmuls = 0, early = 0;
  for (const auto& s : some.steps) {
    backward_matmuls += s.is_backward && s.op->name() == "matmul";
    early += s.is_backward && s.scope != "blocks.3" && s.scope != "head";
  }
  EXPECT_EQ(early, 0) << "layers below the lowest trainable one have no backward";
  EXPECT_EQ(backward_matmuls, 4) << "head input; mlp.proj input and weight; mlp.fc weight";
  EXPECT_LT(some.steps.size(), all.steps.size());
  options.trainable = [](std::string_view) { return false; };
  for (const auto& s : model::build(c, store.layout(), options).steps) EXPECT_FALSE(s.is_backward);
}

/// A program for a GPU is built anywhere.
model::BuildOptions for_a_gpu() {
  model::BuildOptions options;
  options.dtype = tensor::DType::bf16;
  options.passes = graph::all_passes();
  return options;
}
/// Shapes that all kernels of passes take.
ModelConfig wide() {
  auto c = small();
  c.width = 256;
  c.heads = 4;
  c.kv_heads = 2;
  c.rope_dims = 16;
  return c;
}

TEST_F(Family, FusedProgramsStoreNoNormedRowsAndNoRawProjections) {
  const auto c = wide();
  graph::ParameterStore store(model::make_layout(c), {}, true);
  int mixes = 0, norms = 0;
  const auto graph = model::build(c, store.layout(), for_a_gpu());
  for (const auto& s : graph.steps) {
    const auto name = s.op->name();
    EXPECT_NE(name, "qkv_prepare") << s.scope;
    EXPECT_NE(name, "leaky_relu_squared") << s.scope;
    if (name == "mix_norm") {
      ++mixes;
      EXPECT_EQ(s.out[1], graph::absent) << s.scope;
    }
    if (name == "rms_norm" && s.in.size() > 1) {
      ++norms;
      EXPECT_EQ(s.out[0], graph::absent) << s.scope;
      EXPECT_NE(s.in[1], graph::absent) << s.scope << ": squares come with the sum before";
    }
  }
  EXPECT_EQ(mixes, c.layers);
  EXPECT_EQ(norms, c.layers);
  std::map<std::string, int> fired;
  for (const auto& note : graph.notes) fired[note.pass] += note.missed.empty();
  EXPECT_EQ(fired["fold_scales"], 2 * c.layers);
  EXPECT_EQ(fired["fuse_mlp"], c.layers);
  EXPECT_EQ(fired["fuse_heads"], c.layers);
  EXPECT_EQ(fired["defer_norms"], 2 * c.layers);
  EXPECT_EQ(fired["residual_norm"], 0);
}

TEST_F(Family, WhereAKernelDoesNotFitThePlainStepsStay) {
  const auto c = small();  // heads of 8, 48 columns
  graph::ParameterStore store(model::make_layout(c), {}, true);
  const auto graph = model::build(c, store.layout(), for_a_gpu());
  std::map<std::string_view, int> steps;
  for (const auto& s : graph.steps) ++steps[s.op->name()];
  EXPECT_EQ(steps["qkv_prepare"], c.layers);
  EXPECT_EQ(steps["leaky_relu_squared"], c.layers);
  EXPECT_EQ(steps["linear_add"], 2 * c.layers);
  for (const auto* fused : {"qkv_product", "linear_relu_squared", "relu_squared_linear_add"})
    EXPECT_EQ(steps[fused], 0) << fused;
  int missed = 0;
  for (const auto& note : graph.notes)
    if (note.pass == "fuse_heads") {
      ++missed;
      EXPECT_NE(note.missed.find("heads of 8"), std::string::npos) << note.missed;
    }
  EXPECT_EQ(missed, c.layers);
}

TEST_F(Family, FusedHeadsMakeNoGradientThatNobodyReads) {
  const auto c = wide();
  graph::ParameterStore store(model::make_layout(c), {}, true);
  auto options = for_a_gpu();
  options.trainable = [](std::string_view name) { return name == "blocks.3.attn.q_gain"; };
  int backward = 0;
  for (const auto& s : model::build(c, store.layout(), options).steps)
    if (s.op->name() == "qkv_backward") {
      ++backward;
      EXPECT_EQ(s.out[0], graph::absent) << "the projection's";
      EXPECT_NE(s.out[1], graph::absent) << "the gain's";
    }
  EXPECT_EQ(backward, 1);
}

TEST_F(Family, AFrozenMatrixGetsAGradientForItsScalesSake) {
  const auto c = small();
  graph::ParameterStore store(model::make_layout(c), {}, true);
  auto options = for_a_gpu();
  options.trainable = [](std::string_view name) { return name == "blocks.3.mlp_scale"; };
  const auto graph = model::build(c, store.layout(), options);
  for (const auto& fold : graph.folds)
    EXPECT_EQ(fold.trains, fold.scale == "blocks.3.mlp_scale") << fold.weight;
  const auto unfold = graph::build_unfold(store.layout(), options.dtype, graph.folds);
  ASSERT_EQ(unfold.steps.size(), 1u);
  EXPECT_EQ(unfold.steps[0].scope, "blocks.3.mlp.proj.weight");
}

/// A layer that runs three times is three slots: its weights once, its caches and depths three times.
TEST_F(Family, ALayerCanRunThreeTimes) {
  auto c = small();
  c.layers = 2;
  c.unet_skips = false;
  c.ve_layers = {1};
  c.xsa_layers = {1};
  auto store = disturbed(c);
  const std::vector<model::Slot> thrice = {{.layer = 0, .depth = 0, .cache = "first"},
                                           {.layer = 1, .depth = 1, .cache = "second"},
                                           {.layer = 1, .depth = 2, .cache = "third"},
                                           {.layer = 1, .depth = 3, .last = true, .cache = "fourth"}};
  // The same model with the layer written out three times.
  auto copies = c;
  copies.layers = 4;
  copies.ve_layers = {1, 2, 3};
  copies.xsa_layers = {1, 2, 3};
  graph::ParameterStore written(model::make_layout(copies), {}, false);
  for (const auto& p : written.layout().parameters()) {
    auto name = p.name;
    for (const auto* block : {"blocks.2.", "blocks.3."})
      if (name.starts_with(block)) name.replace(0, 9, "blocks.1.");
    if (name.starts_with("ve_layer_scales.")) name = "ve_layer_scales.0";
    std::ranges::copy(store.value(name).span<float>(), written.value(p.name).span<float>().begin());
  }
  const auto ids = tokens(c.window, c.vocab_size);
  const auto logits = [&](const ModelConfig& config, graph::ParameterStore& weights,
                          model::BuildOptions options) {
    graph::Plan plan(weights, runtime_on(pool_));
    options.mode = model::Mode::logits;
    auto& whole = plan.add(model::build(config, weights.layout(), options));
    options.mode = model::Mode::decode;
    options.length = c.window;
    auto& decode = plan.add(model::build(config, weights.layout(), options));
    plan.allocate();
    const auto put = [&](graph::Program& program) {
      std::ranges::copy(ids, program.view("tokens").span<std::int32_t>().begin());
    };
    put(whole);
    whole.run();
    const auto values = whole.view("logits").span<float>();
    std::vector<float> all(values.begin(), values.end());
    put(decode);
    decode.fill("length", 0);
    decode.fill("previous", -1);
    plan.zero_state(model::previous_norm_state);
    decode.run();
    const auto last = decode.view("logits").span<float>();
    EXPECT_LE(max_relative(last, std::span(all).last(last.size())), 1e-4) << "each slot has its own cache";
    return all;
  };
  model::BuildOptions slots;
  slots.slots = thrice;
  EXPECT_EQ(logits(c, store, slots), logits(copies, written, {}));
  slots.mode = model::Mode::decode;
  slots.length = 1;
  slots.slots[2].cache = "second";
  EXPECT_THROW(model::build(c, store.layout(), slots), base::Error) << "two slots on one cache";
}

TEST_F(Family, RopeBaseIsRescaledBeyondItsReferenceLength) {
  ModelConfig c;
  const auto table = model::rope_table(c, 2048, 2048, tensor::DType::f64);
  // docs/spec/model.md section 7: frequencies for S = 2048.
  const double frequencies[] = {
      1, 0.28641497, 0.082033536, 0.023495633, 0.0067295010, 0.0019274298, 0.00055204476, 0.00015811388};
  for (std::size_t i = 0; i < 8; ++i) {
    const double angle = std::atan2(table->span<double>()[16 + 8 + i], table->span<double>()[16 + i]);
    EXPECT_NEAR(angle, frequencies[i], 1e-7 * (1 + frequencies[i]));
  }
}

TEST(FamilyConfig, BadConfigurationsAreNamed) {
  auto expect = [](auto change, const char* part) {
    ModelConfig c;
    change(c);
    try {
      validate(c);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const base::Error& e) {
      EXPECT_EQ(e.kind(), base::ErrorKind::input);
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  expect([](auto& c) { c.heads = 7; }, "model.heads = 7 does not divide model.width = 512");
  expect([](auto& c) { c.kv_heads = 3; }, "model.kv_heads = 3");
  expect([](auto& c) { c.rope_dims = 65; }, "model.rope_dims = 65");
  expect([](auto& c) { c.xsa_layers = {11}; }, "model.xsa_layers names layer 11");
  expect([](auto& c) { c.ve_layers = {9, 9}; }, "twice");
}

}  // namespace
}  // namespace fairway::testing
