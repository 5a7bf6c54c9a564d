#include "fairway/pipeline/stages/model_file.h"

#include "fairway/artifact/safetensors.h"
#include "fairway/base/bytes.h"
#include "fairway/base/hash.h"
#include "fairway/base/path.h"
#include "fairway/model/family.h"
#include "fairway/text/byte_table.h"
#include "stages/run_files.h"
#include "stages/stored_tensor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <set>

namespace fairway::pipeline {

using base::fail_input;

namespace {

std::vector<std::int64_t> extents(const tensor::Shape& shape) {
  std::vector<std::int64_t> result;
  for (int i = 0; i < shape.rank(); ++i) result.push_back(shape[i]);
  return result;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// Files from before the originals' shapes were followed here keep theirs.
template <class Tensors>
void recognise_shapes(model::ModelConfig& config, const Tensors& tensors) {
  std::map<std::string, std::int64_t> elements;
  for (const auto& t : tensors)
    elements[t.name] = std::accumulate(t.shape.begin(), t.shape.end(), std::int64_t{1}, std::multiplies<>());
  config.older_shapes = model::has_older_shapes(config, elements);
}

std::unique_ptr<graph::ParameterStore> empty_weights(const Recipe& recipe) {
  return std::make_unique<graph::ParameterStore>(model::make_layout(recipe.model), tensor::Device{}, false);
}

/// Copies one named tensor; scalars may come with rank 0 or 1.
void fill(graph::ParameterStore& store, const std::string& name, const std::vector<std::int64_t>& shape,
          std::span<const float> values, const std::string& what) {
  if (!store.layout().contains(name))
    fail_input("{}: tensor '{}' is not part of the recipe's model", what, name);
  const auto view = store.value(name);
  const bool same = shape == extents(view.shape()) || (view.elements() == 1 && values.size() == 1);
  if (!same)
    fail_input("{}: tensor '{}' has shape {}, the recipe's model {}", what, name, shape_text(shape),
               view.shape().str());
  std::copy(values.begin(), values.end(), view.span<float>().begin());
}

void check_complete(const graph::ParameterStore& store, const std::set<std::string>& seen,
                    const std::string& what) {
  for (const auto& p : store.layout().parameters())
    if (!seen.count(p.name)) fail_input("{}: tensor '{}' {} is missing", what, p.name, p.shape.str());
}

/// Tables kept in bf16 during training come back as bf16 values (docs/spec/quantization.md section 6).
void round_tables(graph::ParameterStore& store, const Recipe& recipe) {
  if (recipe.optim.embeddings != tensor::DType::bf16) return;
  for (const auto& p : store.layout().parameters())
    if (p.group == graph::Group::embedding)
      for (auto& v : store.value(p.name).span<float>()) v = tensor::round_to_bf16(v);
}

OpenModel from_checkpoint(const std::filesystem::path& path, Weights which) {
  const auto checkpoint = artifact::Checkpoint::open(path);
  const auto what = path.string();
  if (!checkpoint.tokenizer()) fail_input("{}: the checkpoint holds no tokenizer", what);
  OpenModel model{parse_recipe(checkpoint.recipe_text(), what + " (recipe)", {}).recipe,
                  tokenizer_from(*checkpoint.tokenizer(), what),
                  nullptr,
                  "checkpoint",
                  what,
                  {}};
  recognise_shapes(model.recipe.model, checkpoint.tensors());
  model.weights = empty_weights(model.recipe);
  std::set<std::string> seen;
  for (const auto& t : checkpoint.tensors()) {
    fill(*model.weights, t.name, t.shape, t.values, what);
    seen.insert(t.name);
  }
  check_complete(*model.weights, seen, what);
  const auto* average = checkpoint.buffer("exported");
  if (which == Weights::exported && average && !average->bytes.empty()) {
    const auto flat = model.weights->flat_values();
    if (average->bytes.size() != flat.bytes()) fail_input("{}: averaged weights have the wrong size", what);
    std::memcpy(flat.data, average->bytes.data(), flat.bytes());
  }
  return model;
}

}  // namespace

std::string build_version() { return "fairway " FAIRWAY_VERSION; }

artifact::TokenizerSection tokenizer_section(const text::Tokenizer& tokenizer) {
  const auto bytes = tokenizer.model_bytes();
  return {{reinterpret_cast<const char*>(bytes.data()), bytes.size()},
          std::string(text::transform_name(tokenizer.transform())),
          std::string(base::name_of(text::default_byte_rule(tokenizer)))};
}

text::Tokenizer tokenizer_from(const artifact::TokenizerSection& section, const std::string& what) {
  // Files from before CaseOps models were known by their pieces have them without a transform.
  const bool plain = section.transform == text::transform_name(text::Transform::none);
  auto tokenizer = text::Tokenizer::from_bytes(base::as_bytes(section.model), what + " (tokenizer)", plain);
  if (text::transform_name(tokenizer.transform()) != section.transform)
    fail_input("{}: tokenizer with transform '{}' in a file that names '{}'", what,
               text::transform_name(tokenizer.transform()), section.transform);
  return tokenizer;
}

OpenModel from_artifact(const artifact::Artifact& a, const std::string& what) {
  if (!a.tokenizer) fail_input("{}: the artifact holds no tokenizer", what);
  OpenModel model{parse_recipe(a.recipe_text, what + " (recipe)", {}).recipe,
                  tokenizer_from(*a.tokenizer, what),
                  nullptr,
                  "artifact",
                  what,
                  a.provenance};
  recognise_shapes(model.recipe.model, a.tensors);
  model.weights = empty_weights(model.recipe);
  std::set<std::string> seen;
  base::ThreadPool pool(1);
  for (const auto& t : a.tensors) {
    fill(*model.weights, t.name, t.shape, dequantised(t, pool), what);
    seen.insert(t.name);
  }
  check_complete(*model.weights, seen, what);
  round_tables(*model.weights, model.recipe);
  return model;
}

std::filesystem::path model_path(const std::filesystem::path& path, Weights which) {
  if (!base::is_folder(path)) return path;
  const RunFolder run{path};
  if (which == Weights::exported && base::exists(run.artifact())) return run.artifact();
  if (base::exists(run.checkpoint())) return run.checkpoint();
  check_kept(run.checkpoint());
  fail_input("{}: a folder without {}checkpoint.fwck; give a model or the folder of a run", path.string(),
             which == Weights::exported ? "model.fairway or " : "");
}

OpenModel open_model(const std::filesystem::path& from, Weights which) {
  const auto path = model_path(from, which);
  check_kept(path);
  switch (artifact::file_kind(path)) {
    case artifact::FileKind::artifact:
      return from_artifact(artifact::read_artifact(path), path.string());
    case artifact::FileKind::checkpoint:
      return from_checkpoint(path, which);
    default:
      fail_input("{}: neither a .fairway artifact nor a .fwck checkpoint", path.string());
  }
}

void export_safetensors(const OpenModel& model, const std::filesystem::path& path) {
  base::check_output("--out", path, std::array<std::filesystem::path, 1>{model.source});
  std::vector<artifact::SafeTensor> tensors;
  for (const auto& p : model.weights->layout().parameters()) {
    const auto view = model.weights->value(p.name);
    tensors.push_back({p.name,
                       tensor::DType::f32,
                       extents(p.shape),
                       {static_cast<const std::byte*>(view.data), view.bytes()}});
  }
  artifact::write_safetensors(path, tensors,
                              {{"fairway.recipe", to_portable_toml(model.recipe)},
                               {"fairway.build", build_version()},
                               {"fairway.tokenizer", base::hex64(model.tokenizer.fingerprint())}});
}

void load_safetensors(graph::ParameterStore& store, const std::filesystem::path& path) {
  const auto file = artifact::SafeTensors::open(path);
  std::set<std::string> seen;
  for (const auto& t : file.tensors()) {
    const auto values = file.floats(t.name);
    const auto bad = std::ranges::find_if(values, [](float v) { return !std::isfinite(v); });
    if (bad != values.end())
      fail_input("{}: tensor '{}' holds {} at element {}; nothing can be trained or scored with it",
                 path.string(), t.name, *bad, bad - values.begin());
    fill(store, t.name, t.shape, values, path.string());
    seen.insert(t.name);
  }
  check_complete(store, seen, path.string());
}

}  // namespace fairway::pipeline
