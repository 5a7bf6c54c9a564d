#pragma once
// The checks of a verification, each on its own: what an evaluation left behind in, a judgement out.

#include "fairway/adapt/evaluate.h"
#include "fairway/pipeline/stages/verify.h"

#include <cstdint>
#include <span>
#include <vector>

namespace fairway::pipeline {

/// In a published tail targets may have several scores: where and to what end is the verdict's.
VerifyCheck check_targets_once(const adapt::EvaluateResult& run);
VerifyCheck check_score_before_update(const adapt::EvaluateResult& run);
/// C1 to C4; the bytes have a check of their own.
VerifyCheck check_conditions(const score::Verdict& verdict);
/// At least one distribution over `vocabulary` tokens, each within 1e-5 of 1.
VerifyCheck check_distributions(const adapt::AuditResult& audit, int vocabulary);
/// `counted`: bytes of all targets, each once; those of the score but where it has repeats, and at most the
/// text's.
VerifyCheck check_bytes(const adapt::EvaluateResult& run, std::int64_t counted,
                        const score::TextReference& text);

/// Scores by target of two evaluations that differ in the targets order[at], order[at + 1], ... only: those
/// of the targets before must be the same to the bit.
VerifyCheck check_flip(std::span<const std::int64_t> order, std::uint64_t at, std::span<const float> scores,
                       std::span<const float> changed);

}  // namespace fairway::pipeline
