// Shapes that depend on a number: the hidden width, and embeddings as wide as what they are added to.

#include <gtest/gtest.h>

#include "model/folded.h"

namespace fairway::testing {
namespace {

using model::ModelConfig;

ModelConfig tiny() {
  ModelConfig c;
  c.vocab_size = 64;
  c.layers = 2;
  c.width = 30;
  c.heads = 3;
  c.kv_heads = 1;
  c.rope_dims = 4;
  c.window = 16;
  c.bigram_rows = 20;
  c.bigram_dim = 7;
  c.ve_dim = 6;
  c.ve_layers = {1};
  c.xsa_layers = {1};
  return c;
}

std::map<std::string, std::int64_t> elements(const ModelConfig& c) {
  std::map<std::string, std::int64_t> result;
  const auto layout = model::make_layout(c);
  for (const auto& p : layout.parameters()) result[p.name] = p.elements();
  return result;
}

std::int64_t count(const ModelConfig& c) {
  std::int64_t sum = 0;
  for (const auto& [name, n] : elements(c)) sum += n;
  return sum;
}

bool contains(const ModelConfig& c, const char* name) { return model::make_layout(c).contains(name); }

TEST(ModelShapes, TheHiddenWidthIsRoundedDown) {
  auto c = tiny();
  for (const auto& [width, mult, hidden] :
       {std::tuple{30, 0.75, 22}, {30, 0.8, 24}, {30, 2.05, 61}, {48, 3.0, 144}}) {
    c.width = width;
    c.mlp_mult = mult;
    EXPECT_EQ(c.mlp_width(), hidden) << width << " " << mult;
    const auto layout = model::make_layout(c);
    EXPECT_EQ(layout.find("blocks.1.mlp.fc.weight").shape, (tensor::Shape{hidden, width}));
    EXPECT_EQ(layout.find("blocks.1.mlp.proj.weight").shape, (tensor::Shape{width, hidden}));
  }
  c.width = 30;
  c.mlp_mult = 0.03;
  EXPECT_THROW(model::validate(c), base::Error) << "no hidden layer is left";
}

TEST(ModelShapes, EqualWidthsNeedNoProjection) {
  auto c = tiny();
  EXPECT_TRUE(contains(c, "bigram.proj.weight"));
  EXPECT_TRUE(contains(c, "ve_shared.proj.weight"));
  const auto with = count(c);
  c.bigram_dim = c.width;
  c.ve_dim = c.kv_width();
  EXPECT_FALSE(contains(c, "bigram.proj.weight"));
  EXPECT_FALSE(contains(c, "ve_shared.proj.weight"));
  EXPECT_EQ(count(c), with - 30 * 7 + 20 * (30 - 7) - 10 * 6 + 64 * (10 - 6));
  c.ve_dim = 0;
  EXPECT_FALSE(contains(c, "ve_shared.embed.weight"));
  c = tiny();
  c.bigram_rows = 0;
  c.bigram_dim = 12;
  EXPECT_FALSE(contains(c, "bigram.proj.weight"));
}

TEST(ModelShapes, OlderOnesAreKnownByTheirTensors) {
  const auto plain = tiny();
  auto bigram = tiny(), value = tiny(), hidden = tiny();
  bigram.bigram_dim = bigram.width;
  value.ve_dim = value.kv_width();
  hidden.mlp_mult = 0.75;
  for (const auto& c : {bigram, value, hidden}) {
    auto older = c;
    older.older_shapes = true;
    EXPECT_TRUE(model::has_older_shapes(c, elements(older)));
    EXPECT_FALSE(model::has_older_shapes(c, elements(c)));
    EXPECT_FALSE(model::has_older_shapes(c, elements(plain))) << "neither form";
  }
  auto older = plain;
  older.older_shapes = true;
  EXPECT_EQ(elements(older), elements(plain));
  EXPECT_FALSE(model::has_older_shapes(plain, elements(older))) << "no difference";
}

/// Rows of `table` times the transposed `matrix`.
std::vector<float> projected(const std::vector<float>& table, const std::vector<float>& matrix,
                             std::size_t columns) {
  const auto rows = table.size() / columns, width = matrix.size() / columns;
  std::vector<float> result(rows * width);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t o = 0; o < width; ++o) {
      double sum = 0;
      for (std::size_t i = 0; i < columns; ++i)
        sum += static_cast<double>(table[r * columns + i]) * static_cast<double>(matrix[o * columns + i]);
      result[r * width + o] = static_cast<float>(sum);
    }
  return result;
}

/// The originals' loss, logits and gradients with the golden projections multiplied into their tables: what
/// is left is a model whose widths are equal. The gradient of a table is that of the wider one times the
/// projection.
TEST(ModelShapes, WithoutProjectionsTheGoldenValuesAgree) {
  base::ThreadPool pool(2);
  const auto file = golden("sp1024_pr518"), parameters = golden("sp1024_params");
  const auto narrow = golden_config(file, "leaky_square");
  auto config = narrow;
  config.bigram_dim = config.width;
  config.ve_dim = config.kv_width();
  for (const bool folded : {false, true}) {
    graph::ParameterStore store(model::make_layout(config), {}, true);
    for (const auto& p : store.layout().parameters()) {
      const auto values = [&]() -> std::vector<float> {
        for (const auto& [table, columns] :
             {std::pair{"bigram", narrow.bigram_dim}, {"ve_shared", narrow.ve_dim}})
          if (p.name == std::string(table) + ".embed.weight")
            return projected(parameters.floats("param/" + p.name),
                             parameters.floats(std::string("param/") + table + ".proj.weight"),
                             static_cast<std::size_t>(columns));
        return parameters.floats("param/" + p.name);
      }();
      ASSERT_EQ(static_cast<std::int64_t>(values.size()), p.elements()) << p.name;
      std::ranges::copy(values, store.value(p.name).span<float>().begin());
    }
    model::BuildOptions options;
    options.rows = 2;
    if (folded) options.passes = graph::all_passes();
    graph::Plan plan(store, runtime_on(pool));
    const FoldedProgram all(plan, config, options);
    auto& program = *all.program;
    plan.allocate();
    const auto put = [&](const char* name, const auto& values) {
      std::ranges::copy(values, program.view(name).template span<std::int32_t>().begin());
    };
    put("tokens", file.at("input_ids").as<std::int32_t>());
    put("targets", file.at("target_ids").as<std::int32_t>());
    program.fill("weights", 1.0f / (2 * 48));
    all.run();

    const auto loss = file.floats("loss")[0];
    EXPECT_NEAR(program.view("loss").as<float>()[0], loss, 1e-5 * loss);
    int compared = 0;
    for (const auto& p : store.layout().parameters()) {
      const auto got = store.gradient(p.name).span<const float>();
      const auto name = p.name;
      ++compared;
      const auto dot = name.find(".embed.weight");
      if (dot == name.npos) {
        EXPECT_LE(max_relative(got, file.floats("grad/" + name)), 1e-5) << name;
        continue;
      }
      // dE = dE' P, with P [width, columns]: the same product with P transposed.
      const auto matrix = parameters.at("param/" + name.substr(0, dot) + ".proj.weight");
      const auto width = static_cast<std::size_t>(matrix.shape[0]),
                 columns = static_cast<std::size_t>(matrix.shape[1]);
      const auto values = matrix.as<float>();
      std::vector<float> turned(values.size());
      for (std::size_t o = 0; o < width; ++o)
        for (std::size_t i = 0; i < columns; ++i) turned[i * width + o] = values[o * columns + i];
      EXPECT_LE(max_relative(projected({got.begin(), got.end()}, turned, width), file.floats("grad/" + name)),
                1e-5)
          << name;
    }
    EXPECT_GE(compared, 20);
  }
}

/// Initial values do not depend on whether there is a projection.
TEST(ModelShapes, EqualWidthsTrainFromTheOriginalsStart) {
  base::ThreadPool pool(1);
  auto config = tiny();
  config.bigram_dim = config.width;
  config.ve_dim = config.kv_width();
  graph::ParameterStore store(model::make_layout(config), {}, false);
  model::initialise(store, 1, pool);
  EXPECT_EQ(max_magnitude(store.value("bigram.embed.weight").span<float>()), 0);
  const auto ve = store.value("ve_shared.embed.weight").span<float>();
  double squares = 0;
  for (const float v : ve) squares += static_cast<double>(v) * static_cast<double>(v);
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(ve.size())), 0.01, 0.001);
}

}  // namespace
}  // namespace fairway::testing
