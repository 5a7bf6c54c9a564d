#include "fairway/score/seen_targets.h"

#include <algorithm>

#include "fairway/base/error.h"

namespace fairway::score {

void SeenTargets::add(std::int64_t first, std::int64_t count) {
  if (count <= 0) return;
  CommitRun added{first, count};
  auto end = [](const CommitRun& r) { return r.first + r.count; };
  // Everything that touches the new run becomes part of it.
  const auto from = std::find_if(runs_.begin(), runs_.end(), [&](const auto& r) { return end(r) >= first; });
  auto to = from;
  while (to != runs_.end() && to->first <= end(added)) {
    const auto last = std::max(end(*to), end(added));
    added.first = std::min(added.first, to->first);
    added.count = last - added.first;
    ++to;
  }
  runs_.insert(runs_.erase(from, to), added);
}

std::int64_t SeenTargets::targets() const {
  std::int64_t n = 0;
  for (const auto& run : runs_) n += run.count;
  return n;
}

void TrainingWindow::inputs(std::span<std::int32_t> out) const {
  base::check(static_cast<std::int64_t>(out.size()) == count_, "{} inputs for {}", count_, out.size());
  tokens_.copy(first_, out);
}

void TrainingWindow::targets(std::span<std::int32_t> out) const {
  base::check(static_cast<std::int64_t>(out.size()) == count_, "{} targets for {}", count_, out.size());
  tokens_.copy(first_ + 1, out);
}

TrainingWindow TextGate::lesson(std::int64_t first, std::int64_t count, SeenTargets& learner) {
  base::check(first >= 0 && count >= 1 && first + count < tokens_.size(),
              "lesson of targets [{}, {}) in a text of {}", first, first + count, tokens_.size() - 1);
  learner.add(first, count);
  return {tokens_, first, count};
}

TrainingWindow TextGate::committed(std::int64_t first, std::int64_t count, SeenTargets& learner) {
  // The first input is the target before the window.
  for (std::int64_t t = std::max<std::int64_t>(first - 1, 0); t < first + count; ++t)
    base::check(ledger_.committed(t), "target {} may not be learnt from: its score is not in the ledger", t);
  committed_ += count;
  return lesson(first, count, learner);
}

TrainingWindow TextGate::unscored(std::int64_t first, std::int64_t count, SeenTargets& learner) {
  ledger_.declare_broken(Condition::single_pass, "the text was gone through before its scores were entered");
  uncommitted_ += count;
  return lesson(first, count, learner);
}

}  // namespace fairway::score
