#include "fairway/pipeline/verify.h"

#include "fairway/base/random.h"
#include "fairway/base/text.h"

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
    report.json = json.dump(2) + "\n";
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
    add("every target scored once", run.missing == 0 && run.repeats == 0,
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
    add("conditions C1 to C4 kept", verdict.valid(), verdict.text());
  }

  void distributions() {
    const auto& audit = result_.run.audit;
    add("distributions sum to 1", audit.distributions > 0 && audit.worst <= 1e-5,
        fmt::format("{} distributions over {} tokens, largest difference {:.1e}, at most 1e-05 allowed",
                    base::with_commas(audit.distributions), subject_.recipe.model.vocab_size, audit.worst));
  }

  /// The text that the scored tokens decode to, document by document.
  void bytes() {
    const auto targets = static_cast<std::size_t>(result_.run.nll.size());
    const auto tokens = scored_tokens(subject_.recipe, subject_.text).first(targets + 1);
    const auto bos = subject_.tokenizer.bos_id();
    std::int64_t decoded = 0;
    for (std::size_t i = 0; i < tokens.size();) {
      auto end = i + 1;
      while (end < tokens.size() && tokens[end] != bos) ++end;
      decoded += static_cast<std::int64_t>(subject_.tokenizer.decode(tokens.subspan(i, end - i)).size());
      i = end;
    }
    // What stands before the first target is no target.
    if (tokens[0] != bos)
      decoded -= static_cast<std::int64_t>(subject_.tokenizer.decode(tokens.first(1)).size());
    const auto counted = result_.run.score.bytes;
    add("counted bytes are the text's", counted == decoded,
        fmt::format("{} counted by the rule '{}', {} in the decoded text", base::with_commas(counted),
                    result_.run.score.rule, base::with_commas(decoded)));
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
    ScoredText changed;
    changed.tokens = subject_.text.tokens;
    changed.first_target = subject_.text.first_target;
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
