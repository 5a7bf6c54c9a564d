// Counts, initial values, initial loss, and the modes against each other.

#include <gtest/gtest.h>

#include <numeric>

#include "model/small_family.h"

namespace fairway::testing {
namespace {

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
