#include "fairway/pipeline/stages/packing.h"

#include "fairway/exec/calibration.h"
#include "fairway/pipeline/stages/model_file.h"
#include "recipe/quant_policy.h"
#include "stages/stored_tensor.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include <map>

namespace fairway::pipeline {

namespace {

quant::QuantPolicy policy_of(const QuantConfig& c, const graph::ParameterLayout& layout,
                             const quant::Sensitivity& sensitivity) {
  auto policy = written_policy(c);
  if (c.guided_high > 0 || c.guided_low > 0) {
    if (sensitivity.empty())
      base::fail_input(
          "quant.guided_high = {}, quant.guided_low = {}: the training collected no '{}'; train again "
          "with these keys set and to a learning-rate scale below 0.5, or set them to 0",
          c.guided_high, c.guided_low, kSensitivityBuffer);
    std::vector<quant::TensorInfo> tensors;
    for (const auto& p : layout.parameters()) tensors.push_back(tensor_info(p));
    quant::guide_bits(policy, sensitivity, tensors, c.guided_high, c.guided_low);
  }
  return policy;
}

}  // namespace

bool guided_bits(const Recipe& recipe) { return recipe.quant.guided_high > 0 || recipe.quant.guided_low > 0; }

std::string sensitivity_text(const quant::Sensitivity& sensitivity) {
  return nlohmann::json(sensitivity).dump();
}

quant::Sensitivity parse_sensitivity(std::string_view text, const std::string& what) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  quant::Sensitivity result;
  if (!json.is_object()) base::fail_input("{}: '{}' is not a JSON object", what, kSensitivityBuffer);
  for (const auto& [name, value] : json.items()) {
    if (!value.is_number())
      base::fail_input("{}: '{}' of {} is not a number", what, kSensitivityBuffer, name);
    result[name] = value.get<double>();
  }
  return result;
}

bool needs_hessians(const Recipe& recipe, const graph::ParameterLayout& layout) {
  const auto policy = written_policy(recipe.quant);
  return std::ranges::any_of(layout.parameters(),
                             [&](const auto& p) { return !policy.rule_for(tensor_info(p)).quantize; });
}

quant::Hessians calibrate(const Recipe& recipe, graph::ParameterStore& weights, const data::TokenStream& text,
                          const exec::Engine& engine) {
  const auto window = std::int64_t{recipe.model.window};
  const auto rows = std::max<std::int64_t>(1, recipe.quant.calibration_tokens / window);
  data::BatchLoader loader(
      text, {rows * window, window, 1, recipe.data.order, static_cast<std::uint64_t>(recipe.seed)});
  exec::ModelRunner runner(recipe.model, weights, engine);
  std::vector<std::int32_t> targets(static_cast<std::size_t>(rows * window));
  auto hessians = exec::collect_hessians(runner, static_cast<int>(rows), recipe.quant.calibration_batches,
                                         [&](int, std::span<std::int32_t> tokens) {
                                           loader.next_step();
                                           loader.rows(0, tokens, targets);
                                         });
  for (auto& [name, h] : hessians) {  // means over input rows, of which a layer has some for each of its runs
    const int layer = weights.layout().find(name).layer;
    const auto slots = model::execution_slots(recipe.model);
    const auto runs = layer < 0 ? 1 : std::ranges::count(slots, layer, &model::Slot::layer);
    for (auto& v : h) v /= static_cast<float>(runs * rows * window);
  }
  return hessians;
}

artifact::Artifact make_artifact(const Recipe& recipe, graph::ParameterStore& weights,
                                 const text::Tokenizer& tokenizer, const std::string& data_manifest,
                                 exec::Engine& engine, const Measured& measured) {
  const auto policy = policy_of(recipe.quant, weights.layout(), measured.sensitivity);
  std::vector<quant::Source> sources;
  for (const auto& p : weights.layout().parameters()) {
    const bool bf16 = p.group == graph::Group::embedding && recipe.optim.embeddings == tensor::DType::bf16;
    sources.push_back({tensor_info(p), weights.value(p.name).span<const float>(), bf16});
  }
  artifact::Artifact result;
  for (auto& t : quant::quantize_model(policy, sources, engine.pool(), measured.hessians,
                                       [&] { engine.throw_if_stopped(); }))
    result.tensors.push_back(to_stored(std::move(t)));
  result.tokenizer = tokenizer_section(tokenizer);
  result.recipe_text = to_portable_toml(recipe);
  result.provenance = {build_version(), engine.device().str(), std::string(base::isa_name(engine.isa())),
                       static_cast<std::uint64_t>(recipe.seed), data_manifest};
  return result;
}

std::future<artifact::SizeLedger> start_packing(const Recipe& recipe, graph::ParameterStore& weights,
                                                const text::Tokenizer& tokenizer,
                                                const std::string& data_manifest,
                                                const std::filesystem::path& out, exec::Engine& engine,
                                                const Measured& measured) {
  engine.progress().note("quantising and packing");
  const artifact::WriteOptions options{.coder = recipe.quant.coder,
                                       .level = recipe.quant.level,
                                       .shuffle = recipe.quant.shuffle,
                                       .groups = recipe.quant.groups,
                                       .threads = engine.pool().threads()};
  return std::async(std::launch::async,
                    [packed = make_artifact(recipe, weights, tokenizer, data_manifest, engine, measured), out,
                     options] { return artifact::write_artifact(out, packed, options); });
}

artifact::SizeLedger pack(const Recipe& recipe, graph::ParameterStore& weights,
                          const text::Tokenizer& tokenizer, const std::string& data_manifest,
                          const std::filesystem::path& out, exec::Engine& engine, const Measured& measured) {
  return start_packing(recipe, weights, tokenizer, data_manifest, out, engine, measured).get();
}

}  // namespace fairway::pipeline
