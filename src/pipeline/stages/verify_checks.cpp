#include "fairway/pipeline/stages/verify_checks.h"

#include "fairway/base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace fairway::pipeline {

using base::with_commas;

VerifyCheck check_targets_once(const adapt::EvaluateResult& run) {
  const bool may_repeat = run.score.tail == score::Tail::published;
  return {"every target scored once", run.missing == 0 && (run.repeats == 0 || may_repeat),
          fmt::format("{} targets, {} of them never, {} scores too many",
                      with_commas(static_cast<std::int64_t>(run.nll.size())), with_commas(run.missing),
                      with_commas(run.repeats))};
}

VerifyCheck check_score_before_update(const adapt::EvaluateResult& run) {
  return {"scores entered before any update that saw their targets", run.learnt_uncommitted == 0,
          fmt::format("{} targets learnt from after their score, {} before it",
                      with_commas(run.learnt_committed), with_commas(run.learnt_uncommitted))};
}

VerifyCheck check_conditions(const score::Verdict& verdict) {
  const bool ok =
      std::ranges::all_of(verdict.broken, [](auto c) { return c == score::Condition::text_bytes; });
  return {"conditions C1 to C4 kept", ok, ok ? "all four" : verdict.text()};
}

VerifyCheck check_distributions(const adapt::AuditResult& audit, int vocabulary) {
  return {"distributions sum to 1", audit.distributions > 0 && audit.worst <= 1e-5,
          fmt::format("{} distributions over {} tokens, largest difference {:.1e}, at most 1e-05 allowed",
                      with_commas(audit.distributions), vocabulary, audit.worst)};
}

VerifyCheck check_bytes(const adapt::EvaluateResult& run, std::int64_t counted,
                        const score::TextReference& text) {
  using From = score::TextReference::From;
  const auto& score = run.score;
  const bool same = score.bytes == counted || run.repeats > 0;  // repeats count in a published tail
  return {"counted bytes are at most the text's", same && counted <= text.restorable(),
          fmt::format("{} counted by the rule '{}', {} {}{}", with_commas(counted), score.rule,
                      with_commas(text.restorable()),
                      text.from == From::text ? "in the text" : "in the decoded tokens",
                      same ? "" : fmt::format(", but {} in the score", with_commas(score.bytes)))};
}

VerifyCheck check_flip(std::span<const std::int64_t> order, std::uint64_t at, std::span<const float> scores,
                       std::span<const float> changed) {
  std::int64_t different = 0, first = -1;
  for (std::uint64_t i = 0; i < at; ++i) {
    const auto t = static_cast<std::size_t>(order[i]);
    if (std::bit_cast<std::uint32_t>(changed[t]) == std::bit_cast<std::uint32_t>(scores[t])) continue;
    if (++different == 1) first = order[i];
  }
  const auto before = with_commas(static_cast<std::int64_t>(at));
  return {fmt::format("flip test at target {}", order[at]), different == 0,
          different == 0 ? fmt::format("{} scores before it are the same to the bit", before)
                         : fmt::format("{} of {} scores before it changed, the first at target {}",
                                       with_commas(different), before, first)};
}

}  // namespace fairway::pipeline
