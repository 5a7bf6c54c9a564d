#include "fairway/pipeline/verify.h"

#include "fairway/base/random.h"
#include "fairway/base/text.h"
#include "fairway/pipeline/scoring.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cmath>

namespace fairway::pipeline {

using Json = nlohmann::ordered_json;

namespace {

class Verification {
 public:
  Verification(const VerifyRequest& request, Engine& engine)
      : r_(request), engine_(engine), subject_(open_subject(request.subject, engine)) {}

  VerifyReport run() {
    result_ = again(subject_.text, {.keep_scores = true, .audit_windows = r_.audit_windows});
    const auto& s = result_.run.score;
    each_target_once();
    score_before_update();
    conditions();
    distributions();
    bytes();
    flips();
    VerifyReport report{checks_, std::ranges::all_of(checks_, &VerifyCheck::ok), ""};
    Json json = {{"model", subject_.source},
                 {"recipe", subject_.recipe.name},
                 {"ok", report.ok},
                 {"verdict", s.verdict.text()},
                 {result_.kind, Json::parse(result_.to_json())}};
    auto& list = json["checks"] = Json::array();
    for (const auto& c : checks_) list.push_back({{"check", c.name}, {"ok", c.ok}, {"figures", c.figures}});
    report.json = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    return report;
  }

 private:
  AdaptResult again(const ScoredText& text, AdaptExtras extras) {
    extras.enforce_budget = false;  // the budget is the run's own matter
    return adapt_and_score(subject_.recipe, *subject_.weights, subject_.tokenizer, text, engine_, extras);
  }
  void add(std::string name, bool ok, std::string figures) {
    engine_.progress().note(fmt::format("{}: {} ({})", ok ? "ok" : "FAILED", name, figures));
    checks_.push_back({std::move(name), ok, std::move(figures)});
  }

  void each_target_once() {
    const auto& run = result_.run;
    const bool may_repeat =
        run.score.tail == score::Tail::published;  // where and to what end is the verdict's
    add("every target scored once", run.missing == 0 && (run.repeats == 0 || may_repeat),
        fmt::format("{} targets, {} of them never, {} scores too many",
                    base::with_commas(static_cast<std::int64_t>(run.nll.size())),
                    base::with_commas(run.missing), base::with_commas(run.repeats)));
  }

  void score_before_update() {
    const auto& run = result_.run;
    add("scores entered before any update that saw their targets", run.learnt_uncommitted == 0,
        fmt::format("{} targets learnt from after their score, {} before it",
                    base::with_commas(run.learnt_committed), base::with_commas(run.learnt_uncommitted)));
  }

  void conditions() {
    const auto& verdict = result_.run.score.verdict;
    const bool ok =
        std::ranges::all_of(verdict.broken, [](auto c) { return c == score::Condition::text_bytes; });
    add("conditions C1 to C4 kept", ok, ok ? "all four" : verdict.text());
  }

  void distributions() {
    const auto& audit = result_.run.audit;
    add("distributions sum to 1", audit.distributions > 0 && audit.worst <= 1e-5,
        fmt::format("{} distributions over {} tokens, largest difference {:.1e}, at most 1e-05 allowed",
                    base::with_commas(audit.distributions), subject_.recipe.model.vocab_size, audit.worst));
  }

  /// Counted once more, target by target, and held against the documents themselves.
  void bytes() {
    const auto& score = result_.run.score;
    const auto table =
        score_bytes(subject_.recipe.score, subject_.tokenizer, subject_.recipe.model.vocab_size);
    const auto targets = std::ssize(result_.run.nll);
    const auto& tokens = subject_.text.tokens;
    std::int64_t counted = 0;
    for (std::size_t t = 0; t < result_.run.nll.size(); ++t) counted += table.count(tokens[t + 1], tokens[t]);
    const auto text = subject_.text.reference(subject_.tokenizer, targets);
    const bool same = score.bytes == counted || result_.run.repeats > 0;  // repeats count in a published tail
    add("counted bytes are at most the text's", same && counted <= text.bytes(),
        fmt::format("{} counted by the rule '{}', {} {}{}", base::with_commas(counted), score.rule,
                    base::with_commas(text.bytes()), text.decoded ? "in the decoded tokens" : "in the text",
                    same ? "" : fmt::format(", but {} in the score", base::with_commas(score.bytes))));
  }

  /// Targets in the order in which their scores were entered.
  std::vector<std::int64_t> ledger_order() const {
    std::vector<std::int64_t> order;
    for (const auto& run : result_.run.order)
      for (auto t = run.first; t < run.first + run.count; ++t) order.push_back(t);
    return order;
  }

  void flips() {
    const auto order = ledger_order();
    const base::Random random(r_.seed, "verify/flip");
    for (int i = 0; i < r_.flips && order.size() > 1; ++i) {
      const auto at = 1 + random.below(static_cast<std::uint64_t>(i), order.size() - 1);
      flip(order, at, random, static_cast<std::uint64_t>(i + 1) << 32);
    }
  }

  /// Changes the target entered at `at` and all entered after it.
  void flip(const std::vector<std::int64_t>& order, std::uint64_t at, const base::Random& random,
            std::uint64_t counter) {
    ScoredText changed = subject_.text;
    const auto vocabulary = static_cast<std::uint64_t>(
        std::min(subject_.tokenizer.vocab_size(), subject_.recipe.model.vocab_size));
    for (auto i = at; i < order.size(); ++i) {
      auto& token = changed.tokens[static_cast<std::size_t>(order[i]) + 1];
      token =
          static_cast<std::uint16_t>((token + 1 + random.below(counter + i, vocabulary - 1)) % vocabulary);
    }
    AdaptExtras extras{.keep_scores = true};
    // The scores before the change are all that is looked at.
    if (std::is_sorted(order.begin(), order.end())) extras.until = static_cast<std::int64_t>(at);
    const auto other = again(changed, extras).run.nll;
    std::int64_t different = 0, first = -1;
    for (std::uint64_t i = 0; i < at; ++i) {
      const auto t = static_cast<std::size_t>(order[i]);
      if (std::bit_cast<std::uint32_t>(other[t]) == std::bit_cast<std::uint32_t>(result_.run.nll[t]))
        continue;
      if (++different == 1) first = order[i];
    }
    add(fmt::format("flip test at target {}", order[at]), different == 0,
        different == 0 ? fmt::format("{} scores before it are the same to the bit",
                                     base::with_commas(static_cast<std::int64_t>(at)))
                       : fmt::format("{} of {} scores before it changed, the first at target {}",
                                     base::with_commas(different),
                                     base::with_commas(static_cast<std::int64_t>(at)), first));
  }

  const VerifyRequest& r_;
  Engine& engine_;
  const AdaptSubject subject_;
  AdaptResult result_;
  std::vector<VerifyCheck> checks_;
};

}  // namespace

VerifyReport verify(const VerifyRequest& request, Engine& engine) {
  return Verification(request, engine).run();
}

}  // namespace fairway::pipeline
