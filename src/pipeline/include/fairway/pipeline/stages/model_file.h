#pragma once
// Models in files: artifacts, checkpoints, safetensors.

#include "fairway/artifact/artifact.h"
#include "fairway/artifact/checkpoint.h"
#include "fairway/exec/engine.h"
#include "fairway/graph/parameters.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/text/tokenizer.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace fairway::pipeline {

/// A model ready to score, generate or export: weights without gradients.
struct OpenModel {
  Recipe recipe;
  text::Tokenizer tokenizer;
  std::unique_ptr<graph::ParameterStore> weights;
  std::string kind;  ///< "artifact" or "checkpoint"
  std::string source;
  artifact::Provenance provenance;
};

/// Which weights of a checkpoint are meant.
enum class Weights {
  exported,  ///< the average the recipe exports, or the raw weights when there is none
  raw,       ///< the last step's
};

/// The model file that is meant by a file (itself) or by a run's folder: its artifact, or the checkpoint of
/// a run that has none yet or whose raw weights are wanted. Throws an input error for other folders.
std::filesystem::path model_path(const std::filesystem::path& path, Weights which = Weights::exported);

/// Opens an artifact (weights dequantised), a checkpoint, by its magic, or a run's folder. Throws an input
/// error for anything else, for a damaged file, and for tensors that do not fit the recipe inside.
OpenModel open_model(const std::filesystem::path& path, Weights which = Weights::exported);

/// A model from an artifact in memory; `what` names it in errors.
OpenModel from_artifact(const artifact::Artifact& artifact, const std::string& what);

/// Writes fp32 safetensors with our tensor names (docs/format.md); metadata holds recipe and tokenizer hash.
void export_safetensors(const OpenModel& model, const std::filesystem::path& path);
/// Fills `store` from a safetensors file: every tensor of the model must be there with its shape, none
/// besides.
void load_safetensors(graph::ParameterStore& store, const std::filesystem::path& path);

/// The tokenizer as an artifact or checkpoint embeds it, and back.
artifact::TokenizerSection tokenizer_section(const text::Tokenizer& tokenizer);
text::Tokenizer tokenizer_from(const artifact::TokenizerSection& section, const std::string& what);

/// The build's name and version ("fairway 0.1.0").
std::string build_version();

}  // namespace fairway::pipeline
