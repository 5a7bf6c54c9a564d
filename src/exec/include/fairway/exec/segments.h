#pragma once
// Attention inside documents: which positions of a row see which (model::ModelConfig::documents).

#include "fairway/graph/program.h"
#include "fairway/model/config.h"

#include <cstdint>
#include <span>

namespace fairway::exec {

/// For each position of rows of `length` tokens the first one that it sees: where its document begins in the
/// row (at `bos`, or at the row's beginning), or the last multiple of `longest` positions behind that
/// (docs/spec/caseops_training.md section 5.2: longer documents are cut into pieces).
void segment_starts(std::span<const std::int32_t> tokens, std::int64_t length, std::int32_t bos,
                    std::int64_t longest, std::span<std::int32_t> starts);

/// The same for the rows of a program, cut at `longest`; 0: at the configuration's window.
void fill_segments(const model::ModelConfig& config, const graph::Program& program,
                   std::span<const std::int32_t> tokens, std::span<std::int32_t> starts,
                   std::int64_t longest = 0);

}  // namespace fairway::exec
