#pragma once
// Weights to artifact: prune, quantise, pack, read back.

#include "fairway/artifact/artifact.h"
#include "fairway/data/loader.h"
#include "fairway/exec/engine.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/quant/policy.h"
#include "fairway/text/tokenizer.h"

#include <filesystem>
#include <future>
#include <string>
#include <string_view>

namespace fairway::pipeline {

/// Does the recipe ask for gradient-guided bits?
bool guided_bits(const Recipe& recipe);

/// Checkpoint buffer with what gradient-guided bits are allotted by: a JSON object, tensor name to the mean
/// squared gradient that training saw (while the learning-rate scale was below 0.5:
/// docs/spec/ttt.md section 7).
inline constexpr const char* kSensitivityBuffer = "sensitivity";
std::string sensitivity_text(const quant::Sensitivity& sensitivity);
/// Throws an input error naming `what`.
quant::Sensitivity parse_sensitivity(std::string_view text, const std::string& what);

/// What quantisers may ask for beside the weights.
struct Measured {
  quant::Sensitivity sensitivity = {};  ///< of gradient-guided bits
  quant::Hessians hessians = {};        ///< of GPTQ
};

/// Does a rule of the recipe ask for Hessians of the layout's tensors?
bool needs_hessians(const Recipe& recipe, const graph::ParameterLayout& layout);
/// Hessians of what these weights' matrices multiply, over windows of the training text from its beginning
/// (quant.calibration_batches, quant.calibration_tokens; docs/spec/caseops_quantization.md section 2).
/// Attention sees what it sees in scoring.
quant::Hessians calibrate(const Recipe& recipe, graph::ParameterStore& weights, const data::TokenStream& text,
                          const exec::Engine& engine);

/// Quantises `weights` by the recipe's rules. The result holds recipe, tokenizer and provenance. What the
/// recipe asks for and `measured` does not have is an input error.
artifact::Artifact make_artifact(const Recipe& recipe, graph::ParameterStore& weights,
                                 const text::Tokenizer& tokenizer, const std::string& data_manifest,
                                 exec::Engine& engine, const Measured& measured = {});

/// make_artifact, then written atomically; the ledger says where the bytes went.
artifact::SizeLedger pack(const Recipe& recipe, graph::ParameterStore& weights,
                          const text::Tokenizer& tokenizer, const std::string& data_manifest,
                          const std::filesystem::path& out, exec::Engine& engine,
                          const Measured& measured = {});

/// pack() in two: the weights are quantised when it returns and may change; a thread of its own compresses
/// and writes (half a minute for 27 M weights on one core, since the coder's bytes allow no cutting).
std::future<artifact::SizeLedger> start_packing(const Recipe& recipe, graph::ParameterStore& weights,
                                                const text::Tokenizer& tokenizer,
                                                const std::string& data_manifest,
                                                const std::filesystem::path& out, exec::Engine& engine,
                                                const Measured& measured = {});

}  // namespace fairway::pipeline
