#include "fairway/pipeline/stages/verify.h"

#include "fairway/base/random.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/pipeline/stages/verify_checks.h"
#include "fairway/report/metrics.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>

namespace fairway::pipeline {

using Json = nlohmann::ordered_json;

namespace {

class Verification {
 public:
  Verification(const VerifyRequest& request, exec::Engine& engine)
      : r_(request), engine_(engine), subject_(open_subject(request.subject, engine)) {}

  VerifyReport run() {
    result_ = again(subject_.text, {.keep_scores = true, .audit_windows = r_.audit_windows});
    const auto& s = result_.run.score;
    add(check_targets_once(result_.run));
    add(check_score_before_update(result_.run));
    add(check_conditions(s.verdict));
    add(check_distributions(result_.run.audit, subject_.recipe.model.vocab_size));
    add(bytes());
    flips();
    VerifyReport report{checks_, std::ranges::all_of(checks_, &VerifyCheck::ok), ""};
    Json json = {{"model", subject_.source},
                 {"recipe", subject_.recipe.name},
                 {"ok", report.ok},
                 {"verdict", s.verdict.text()},
                 {result_.kind, result_.to_json()}};
    auto& list = json["checks"] = Json::array();
    for (const auto& c : checks_) list.push_back({{"check", c.name}, {"ok", c.ok}, {"figures", c.figures}});
    report.json = report::json_text(json);
    return report;
  }

 private:
  AdaptResult again(const ScoredText& text, AdaptExtras extras) {
    extras.enforce_budget = false;  // the budget is the run's own matter
    return adapt_and_score(subject_.recipe, *subject_.weights, subject_.tokenizer, text, engine_, extras);
  }
  void add(VerifyCheck check) {
    engine_.progress().note(
        fmt::format("{}: {} ({})", check.ok ? "ok" : "FAILED", check.name, check.figures));
    checks_.push_back(std::move(check));
  }

  /// Counted once more, target by target, and held against the documents themselves.
  VerifyCheck bytes() const {
    const auto& recipe = subject_.recipe;
    const auto targets = std::ssize(result_.run.nll);
    const auto tokens = std::span(subject_.text.tokens).first(static_cast<std::size_t>(targets) + 1);
    const auto bytes =
        token_bytes(recipe.score, subject_.tokenizer, recipe.model.vocab_size, subject_.text, tokens);
    const auto counted = std::accumulate(bytes.counts.begin(), bytes.counts.end(), std::int64_t{0});
    return check_bytes(result_.run, counted,
                       subject_.text.reference(subject_.tokenizer, bytes.rule, targets));
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
    add(check_flip(order, at, result_.run.nll, other));
  }

  const VerifyRequest& r_;
  exec::Engine& engine_;
  const AdaptSubject subject_;
  AdaptResult result_;
  std::vector<VerifyCheck> checks_;
};

}  // namespace

VerifyReport verify(const VerifyRequest& request, exec::Engine& engine) {
  return Verification(request, engine).run();
}

}  // namespace fairway::pipeline
