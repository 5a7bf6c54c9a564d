#include "fairway/pipeline/packing.h"

#include "fairway/pipeline/model_file.h"
#include "fairway/quant/policy.h"

namespace fairway::pipeline {

namespace {

quant::QuantPolicy policy_of(const QuantConfig& c) {
  quant::QuantPolicy policy;
  policy.matrix = quant::parse_matrix_rule("quant.matrix", c.matrix);
  policy.table = quant::parse_table_rule("quant.table", c.table);
  policy.passthrough_limit = c.passthrough_limit;
  policy.prune = c.prune;
  return policy;
}

artifact::TensorKind stored_kind(quant::Kind kind) {
  switch (kind) {
    case quant::Kind::int6:
      return artifact::TensorKind::int6;
    case quant::Kind::int8:
      return artifact::TensorKind::int8;
    case quant::Kind::int5:
      return artifact::TensorKind::int5;
    default:
      return artifact::TensorKind::f16;
  }
}

artifact::StoredTensor stored(quant::QuantizedTensor&& t) {
  artifact::StoredTensor s;
  s.name = std::move(t.name);
  s.kind = stored_kind(t.kind);
  for (int i = 0; i < t.shape.rank(); ++i) s.shape.push_back(t.shape[i]);
  s.q = std::move(t.q);
  s.scales = std::move(t.scales);
  s.half = std::move(t.passthrough);
  return s;
}

}  // namespace

artifact::Artifact make_artifact(const Recipe& recipe, graph::ParameterStore& weights,
                                 const text::Tokenizer& tokenizer, const std::string& data_manifest,
                                 Engine& engine) {
  const auto policy = policy_of(recipe.quant);
  artifact::Artifact result;
  for (const auto& p : weights.layout().parameters()) {
    engine.throw_if_stopped();
    const bool bf16 = p.group == graph::Group::table && recipe.optim.tables == "bf16";
    result.tensors.push_back(stored(quant::quantize(policy, p.name, weights.value(p.name).span<const float>(),
                                                    p.shape, bf16, engine.pool())));
  }
  result.tokenizer = tokenizer_section(tokenizer);
  result.recipe_text = to_portable_toml(recipe);
  result.provenance = {build_version(), engine.device().str(), std::string(base::isa_name(engine.isa())),
                       static_cast<std::uint64_t>(recipe.seed), data_manifest};
  return result;
}

artifact::SizeLedger pack(const Recipe& recipe, graph::ParameterStore& weights,
                          const text::Tokenizer& tokenizer, const std::string& data_manifest,
                          const std::filesystem::path& out, Engine& engine) {
  engine.progress().note("quantising and packing");
  const auto packed = make_artifact(recipe, weights, tokenizer, data_manifest, engine);
  const auto coder = artifact::parse_coder(recipe.quant.coder);
  if (!coder) base::fail_input("quant.coder = \"{}\" is unknown (zstd or raw)", recipe.quant.coder);
  return artifact::write_artifact(out, packed, {*coder, recipe.quant.level});
}

}  // namespace fairway::pipeline
