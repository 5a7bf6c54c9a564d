#pragma once
// Weights to artifact: prune, quantise, pack, read back.

#include "fairway/artifact/artifact.h"
#include "fairway/pipeline/engine.h"
#include "fairway/pipeline/recipe.h"
#include "fairway/text/tokenizer.h"

#include <filesystem>
#include <string>

namespace fairway::pipeline {

/// Quantises `weights` by the recipe's rules. The result holds recipe, tokenizer and provenance.
artifact::Artifact make_artifact(const Recipe& recipe, graph::ParameterStore& weights,
                                 const text::Tokenizer& tokenizer, const std::string& data_manifest,
                                 Engine& engine);

/// make_artifact, then written atomically; the ledger says where the bytes went.
artifact::SizeLedger pack(const Recipe& recipe, graph::ParameterStore& weights,
                          const text::Tokenizer& tokenizer, const std::string& data_manifest,
                          const std::filesystem::path& out, Engine& engine);

}  // namespace fairway::pipeline
