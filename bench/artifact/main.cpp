// bench_pack [SPREAD]: what each coder makes of the integers of a 27 M-parameter model, and how long it
// takes. Weights are normal; matrices have the width on the int6 grid (5.87 steps) at which its integers
// have 4.6 bits, as the published artifacts do. SPREAD (0.3): rows differ in size by this standard deviation
// of the logarithm.

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "fairway/artifact/coders.h"
#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/stages/packing.h"

namespace {

using namespace fairway;

void fill(graph::ParameterStore& store, double spread) {
  const base::Random values(1, "bench.values"), rows(1, "bench.rows");
  constexpr double width = 5.87 / 31;  // on the grid of step 1/31 that nearly all rows share
  std::uint64_t at = 0, row = 0;
  for (const auto& p : store.layout().parameters()) {
    auto span = store.value(p.name).span<float>();
    const auto columns = static_cast<std::size_t>(p.shape.columns());
    const double size = p.group == graph::Group::embedding ? 0.3 : width;
    for (std::size_t i = 0; i < span.size(); ++i) {
      if (i % columns == 0) ++row;
      span[i] = static_cast<float>(size * std::exp(spread * rows.normal(row)) * values.normal(at++));
    }
  }
}

void run(double spread) {
  const auto recipe = pipeline::load_recipe("cosine_ttt50").recipe;
  exec::Engine engine({});
  graph::ParameterStore store(model::make_layout(recipe.model), tensor::Device{}, false);
  fill(store, spread);
  const auto tokenizer = text::Tokenizer::load(recipe.data.tokenizer);
  const auto packed = pipeline::make_artifact(recipe, store, tokenizer, "{}", engine);
  const auto compared = artifact::compare_coders(packed, engine.pool().threads());
  fmt::print(
      "{} weights, rows spread by {}: {} bytes unpacked, {} in packed bits, {} at each tensor's entropy\n",
      compared.weights, spread, compared.raw_bytes, compared.plain_bytes, compared.entropy_bytes);
  for (const auto& c : compared.coders)
    fmt::print("{:24}  {:>10} bytes  {:.4f} bits per weight  {:6.2f} s to code  {:5.2f} s to decode\n",
               c.name(), c.weights_bytes, c.bits_per_weight, c.encode_seconds, c.decode_seconds);
  for (const bool planes : {false, true})
    fmt::print("zstd 3, byte planes {}: {} bytes in all\n", planes ? "on" : "off",
               artifact::encode_artifact(packed, {artifact::Coder::zstd, 3, planes}).size());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? std::atof(argv[1]) : 0.3);
  } catch (const base::Error& error) {
    fmt::print(stderr, "bench_pack: {}\n", error.what());
    return 1;
  }
  return 0;
}
