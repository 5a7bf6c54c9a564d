#include "fairway/score/ledger.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "fairway/base/error.h"
#include "fairway/score/knowledge.h"

namespace fairway::score {

std::string_view condition_name(Condition condition) {
  switch (condition) {
    case Condition::causal:
      return "C1 strict causal dependence";
    case Condition::normalised:
      return "C2 full normalised distribution";
    case Condition::score_before_update:
      return "C3 score before update";
    case Condition::single_pass:
      break;
  }
  return "C4 single left-to-right pass";
}

std::string Verdict::text() const {
  switch (kind) {
    case VerdictKind::valid:
      return "valid";
    case VerdictKind::valid_with_side_information:
      return "valid with side information";
    case VerdictKind::not_a_code_length:
      break;
  }
  return "not a code length: " + reason;
}

ScoreLedger::ScoreLedger(LedgerOptions options) : options_(std::move(options)) {
  base::check(options_.targets >= 0, "a ledger of {} targets", options_.targets);
  seen_.resize(static_cast<std::size_t>((options_.targets + 63) / 64));
  const auto& starts = options_.documents;
  if (starts.empty()) return;
  base::check(starts.front() == 0 && std::is_sorted(starts.begin(), starts.end()) &&
                  starts.back() <= options_.targets,
              "documents must start at target 0 and ascend");
  documents_.resize(starts.size());
  for (std::size_t i = 0; i < starts.size(); ++i) documents_[i].first_target = starts[i];
}

bool ScoreLedger::committed(std::int64_t target) const {
  if (target < 0 || target >= options_.targets) return false;
  return (seen_[static_cast<std::size_t>(target / 64)] >> (target % 64) & 1) != 0;
}

void ScoreLedger::mark(std::int64_t target) {
  if (committed(target)) {
    ++repeats_;
    const bool allowed = options_.repeats_allowed_from && target >= *options_.repeats_allowed_from;
    if (!allowed) declare_broken(Condition::single_pass, fmt::format("target {} scored twice", target));
  } else {
    if (target < highest_ && out_of_order_.empty())
      out_of_order_ = fmt::format("target {} committed after target {}", target, highest_);
    seen_[static_cast<std::size_t>(target / 64)] |= std::uint64_t{1} << (target % 64);
    highest_ = std::max(highest_, target);
    while (committed(prefix_)) ++prefix_;
  }
  if (!order_.empty() && order_.back().first + order_.back().count == target)
    ++order_.back().count;
  else
    order_.push_back({target, 1});
}

/// One run of targets that the weights were fitted to, against targets [first, end) that they now score.
void ScoreLedger::judge(std::int64_t first, std::int64_t end, const CommitRun& learnt) {
  const std::int64_t last = learnt.first + learnt.count;
  if (const auto both = std::max(first, learnt.first); both < std::min(end, last))
    declare_broken(Condition::score_before_update,
                   fmt::format("target {} was learnt from before its score was entered", both));
  if (!broken(Condition::causal).empty()) return;
  for (auto t = std::max(learnt.first, prefix_); t < last; ++t) {
    if (t >= first && t < end) continue;
    if (committed(t)) continue;
    declare_broken(Condition::causal,
                   fmt::format("target {} was scored by weights that had learnt from target {}, which has no "
                               "score yet",
                               first, t));
    return;
  }
}

void ScoreLedger::judge(std::int64_t first, std::int64_t end, const ScoreOrigin& origin) {
  if (origin.combination == Combination::minimum) {
    const auto n = origin.weights.size();
    declare_broken(Condition::normalised,
                   fmt::format("the best of {} predictions was taken after the target was seen", n));
    declare_broken(Condition::single_pass, fmt::format("of {} scores for each target the best was kept", n));
  }
  for (const auto* knowledge : origin.weights)
    for (const auto& run : knowledge->runs()) judge(first, end, run);
}

void ScoreLedger::commit(std::int64_t first, std::span<const float> nll, std::span<const std::int32_t> bytes,
                         const ScoreOrigin& origin) {
  base::check(nll.size() == bytes.size(), "{} scores but {} byte counts", nll.size(), bytes.size());
  const auto count = static_cast<std::int64_t>(nll.size());
  base::check(first >= 0 && first + count <= options_.targets, "targets [{}, {}) in a ledger of {}", first,
              first + count, options_.targets);
  // Nothing is entered when one of the values is bad: the ledger stays what it was.
  for (std::size_t i = 0; i < nll.size(); ++i) {
    if (!std::isfinite(nll[i]))
      base::fail("the model's log-probability of target {} is {}: it cannot be scored",
                 first + static_cast<std::int64_t>(i), std::isnan(nll[i]) ? "not a number" : "infinite");
    base::check(bytes[i] >= 0, "target {} stands for {} bytes", first + static_cast<std::int64_t>(i),
                bytes[i]);
  }
  judge(first, first + count, origin);
  auto document = std::upper_bound(options_.documents.begin(), options_.documents.end(), first);
  for (std::size_t i = 0; i < nll.size(); ++i) {
    const std::int64_t target = first + static_cast<std::int64_t>(i);
    // A softmax gives at most probability 1; fp32 rounding may put the nll a hair below 0.
    if (nll[i] < -1e-3f)
      declare_broken(Condition::normalised, fmt::format("target {} has a probability above 1", target));
    mark(target);
    ++tokens_;
    nll_ += static_cast<double>(nll[i]);
    bytes_ += bytes[i];
    if (documents_.empty()) continue;
    while (document != options_.documents.end() && *document <= target) ++document;
    auto& sums = documents_[static_cast<std::size_t>(document - options_.documents.begin() - 1)];
    ++sums.tokens;
    sums.bytes += bytes[i];
    sums.nll += static_cast<double>(nll[i]);
  }
}

void ScoreLedger::add_side_information(double bits, std::string what) {
  base::check(std::isfinite(bits) && bits >= 0, "side information of {} bits", bits);
  side_bits_ += bits;
  side_.push_back(std::move(what));
}

void ScoreLedger::declare_broken(Condition condition, std::string why) {
  if (broken(condition).empty()) broken(condition) = std::move(why);
}

double ScoreLedger::loss() const {
  if (tokens_ == 0) base::fail_input("nothing was scored: the loss is undefined");
  return nll_ / static_cast<double>(tokens_);
}

double ScoreLedger::bits_per_byte() const {
  if (bytes_ == 0)
    base::fail_input("the scored tokens stand for 0 bytes of text: bits per byte are undefined");
  return (nll_ / std::numbers::ln2 + side_bits_) / static_cast<double>(bytes_);
}

Verdict ScoreLedger::verdict() const {
  Verdict v;
  if (repeats_ > 0 && options_.repeats_allowed_from)
    v.notes.push_back(
        fmt::format("published tail: the last {} targets were scored {} more times, and the repeats count",
                    options_.targets - *options_.repeats_allowed_from, repeats_));
  for (const auto& what : side_) v.notes.push_back("side information: " + what);
  auto why = broken_;
  auto& order = why[static_cast<std::size_t>(Condition::single_pass)];
  if (order.empty() && prefix_ < options_.targets) order = fmt::format("target {} was never scored", prefix_);
  if (order.empty() && !out_of_order_.empty() && side_.empty())
    order = fmt::format("{} and the order is not coded", out_of_order_);
  for (int i = 0; i < condition_count; ++i) {
    if (why[static_cast<std::size_t>(i)].empty()) continue;
    const auto condition = static_cast<Condition>(i);
    v.broken.push_back(condition);
    v.reason += fmt::format("{}{}: {}", v.reason.empty() ? "" : "; ", condition_name(condition),
                            why[static_cast<std::size_t>(i)]);
  }
  if (!v.reason.empty())
    v.kind = VerdictKind::not_a_code_length;
  else if (!side_.empty())
    v.kind = VerdictKind::valid_with_side_information;
  return v;
}

}  // namespace fairway::score
