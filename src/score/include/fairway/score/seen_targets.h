#pragma once
// What weights have learnt from, and the gate through which text gets to whoever adapts them.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fairway/score/score.h"

namespace fairway::score {

class ScoreLedger;

/// The targets that one set of weights was fitted to since it left the artifact: disjoint ascending runs.
class SeenTargets {
 public:
  void add(std::int64_t first, std::int64_t count);
  void clear() { runs_.clear(); }  ///< the weights are the artifact's again
  const std::vector<CommitRun>& runs() const { return runs_; }
  std::int64_t targets() const;

 private:
  std::vector<CommitRun> runs_;
};

/// A window of text to learn from: inputs are tokens [first, first + count), targets the ones after each.
/// Only a TextGate makes one.
class TrainingWindow {
 public:
  std::int64_t first() const { return first_; }
  std::int64_t count() const { return count_; }
  void inputs(std::span<std::int32_t> out) const;   ///< `count()` ids
  void targets(std::span<std::int32_t> out) const;  ///< `count()` ids

 private:
  friend class TextGate;
  TrainingWindow(const TokenView& tokens, std::int64_t first, std::int64_t count)
      : tokens_(tokens), first_(first), count_(count) {}
  TokenView tokens_;
  std::int64_t first_, count_;
};

/// Hands text to an adaptation. There are two doors: `committed` gives only what the ledger has entered
/// already, `unscored` gives anything and tells the ledger. Ledger and tokens must outlive the gate.
class TextGate {
 public:
  TextGate(TokenView tokens, ScoreLedger& ledger) : tokens_(tokens), ledger_(ledger) {}

  /// A check error when one of the targets has no score yet. `learner` now knows them.
  TrainingWindow committed(std::int64_t first, std::int64_t count, SeenTargets& learner);
  /// The door for protocols that are not code lengths.
  TrainingWindow unscored(std::int64_t first, std::int64_t count, SeenTargets& learner);

  std::int64_t committed_targets() const { return committed_; }      ///< handed out, repeats counted
  std::int64_t uncommitted_targets() const { return uncommitted_; }  ///< through the other door

 private:
  TrainingWindow lesson(std::int64_t first, std::int64_t count, SeenTargets& learner);
  TokenView tokens_;
  ScoreLedger& ledger_;
  std::int64_t committed_ = 0, uncommitted_ = 0;
};

}  // namespace fairway::score
