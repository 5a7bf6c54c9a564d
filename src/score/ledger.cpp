#include "fairway/score/ledger.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/score/seen_targets.h"

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
      return "C4 single left-to-right pass";
    case Condition::text_bytes:
      break;
  }
  return "bytes of the text";
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
  const auto& documents = options_.text.documents;
  if (documents.empty()) return;
  base::check(documents.front().first_target == 0 &&
                  std::ranges::is_sorted(documents, {}, &DocumentText::first_target) &&
                  documents.back().first_target <= options_.targets,
              "documents must start at target 0 and ascend");
  for (const auto& d : documents) {
    base::check(d.bytes >= 0, "a document of {} bytes", d.bytes);
    documents_.push_back({.first_target = d.first_target, .text_bytes = d.bytes});
  }
  text_bytes_ = options_.text.bytes();
}

std::int64_t TextReference::bytes() const {
  std::int64_t sum = 0;
  for (const auto& d : documents) sum += d.bytes;
  return sum;
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
  for (const auto* seen : origin.weights)
    for (const auto& run : seen->runs()) judge(first, end, run);
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
  auto document = std::ranges::upper_bound(documents_, first, {}, &DocumentScore::first_target);
  for (std::size_t i = 0; i < nll.size(); ++i) {
    const std::int64_t target = first + static_cast<std::int64_t>(i);
    while (document != documents_.end() && document->first_target <= target) ++document;
    enter(target, static_cast<double>(nll[i]), bytes[i], documents_.empty() ? nullptr : &*(document - 1));
  }
}

void ScoreLedger::enter(std::int64_t target, double nll, std::int64_t bytes, DocumentScore* document) {
  // A softmax gives at most probability 1; fp32 rounding may put the nll a hair below 0.
  if (nll < -1e-3)
    declare_broken(Condition::normalised, fmt::format("target {} has a probability above 1", target));
  const bool again = committed(target);
  mark(target);
  ++tokens_;
  nll_ += nll;
  bytes_ += bytes;
  if (again) return;
  first_nll_ += nll;
  first_bytes_ += bytes;
  if (!document) return;
  ++document->tokens;
  document->bytes += bytes;
  document->nll += nll;
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

/// Why the counted bytes are too many; empty when they are not.
std::string ScoreLedger::too_many_bytes() const {
  if (options_.text.documents.empty() && options_.targets > 0)
    return "the text is not known, so the counted bytes cannot be held against it";
  const bool side_car = options_.text.from == TextReference::From::side_car;
  const auto known = options_.text.restorable();
  if (first_bytes_ <= known) return "";
  return fmt::format(
      "{} bytes counted{}, {} {}{}", base::with_commas(first_bytes_), side_car ? " by the side-car" : "",
      options_.text.from == TextReference::From::text ? "the text has" : "the tokens decode to",
      base::with_commas(known), side_car ? " (score the text itself to prove more)" : "");
}

/// Repeats count in a published tail; they may make a score worse than the code length, not better.
std::string ScoreLedger::flattering_repeats() const {
  if (repeats_ == 0 || bytes_ == 0 || text_bytes_ == 0) return "";
  const double bits = first_nll_ / std::numbers::ln2 + side_bits_;
  const double once = bits / static_cast<double>(text_bytes_);
  if (bits_per_byte() >= once) return "";
  return fmt::format(
      "{} targets scored again lower the score to {:.6f} bits per byte; each counted once it is {:.6f}",
      base::with_commas(repeats_), bits_per_byte(), once);
}

/// Documents that count more bytes than they have, as where ½ is normalised to 1⁄2.
void ScoreLedger::note_documents(std::vector<std::string>& notes) const {
  const auto exceeds = [](const DocumentScore& d) { return d.bytes > d.text_bytes; };
  const auto first = std::ranges::find_if(documents_, exceeds);
  if (first == documents_.end()) return;
  notes.push_back(
      fmt::format("{} of {} documents count more bytes than they have, the first one is document {}: {} "
                  "counted, {} in its text",
                  base::with_commas(std::ranges::count_if(documents_, exceeds)),
                  base::with_commas(std::ssize(documents_)), first - documents_.begin() + 1,
                  base::with_commas(first->bytes), base::with_commas(first->text_bytes)));
}

Verdict ScoreLedger::verdict() const {
  Verdict v;
  if (repeats_ > 0 && options_.repeats_allowed_from)
    v.notes.push_back(
        fmt::format("published tail: the last {} targets were scored {} more times, and the repeats count",
                    options_.targets - *options_.repeats_allowed_from, repeats_));
  for (const auto& what : side_) v.notes.push_back("side information: " + what);
  if (options_.text.from == TextReference::From::decoded)
    v.notes.push_back("only tokens were given: the counted bytes are held against the text they decode to");
  if (options_.text.from == TextReference::From::side_car)
    v.notes.push_back(fmt::format(
        "only tokens and a side-car of their bytes were given: its {} bytes are held against the {} that the "
        "tokens decode to",
        base::with_commas(text_bytes_), base::with_commas(options_.text.decoded_bytes)));
  note_documents(v.notes);
  auto why = broken_;
  why[static_cast<std::size_t>(Condition::text_bytes)] = too_many_bytes();
  auto& order = why[static_cast<std::size_t>(Condition::single_pass)];
  if (order.empty() && prefix_ < options_.targets) order = fmt::format("target {} was never scored", prefix_);
  if (order.empty() && !out_of_order_.empty() && side_.empty())
    order = fmt::format("{} and the order is not coded", out_of_order_);
  if (order.empty()) order = flattering_repeats();
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
