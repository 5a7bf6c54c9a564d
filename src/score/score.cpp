#include "fairway/score/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "fairway/base/clock.h"
#include "fairway/base/error.h"

namespace fairway::score {

std::int64_t TokenView::size() const {
  return std::visit([](auto tokens) { return static_cast<std::int64_t>(tokens.size()); }, tokens_);
}

std::int32_t TokenView::operator[](std::int64_t index) const {
  return std::visit(
      [&](auto tokens) { return static_cast<std::int32_t>(tokens[static_cast<std::size_t>(index)]); },
      tokens_);
}

void TokenView::copy(std::int64_t first, std::span<std::int32_t> out) const {
  base::check(first >= 0 && first + static_cast<std::int64_t>(out.size()) <= size(), "tokens [{}, {}) of {}",
              first, first + static_cast<std::int64_t>(out.size()), size());
  std::visit(
      [&](auto tokens) {
        const auto part = tokens.subspan(static_cast<std::size_t>(first), out.size());
        std::copy(part.begin(), part.end(), out.begin());
      },
      tokens_);
}

namespace {

/// One call of the model: consecutive windows of the plan that need the same number of positions.
class Batch {
 public:
  Batch(const WindowPlan& plan, const TokenView& tokens, int rows)
      : plan_(plan), tokens_(tokens), rows_(rows) {
    inputs_.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(plan.window()));
  }

  /// Takes windows from `first` on; returns how many.
  std::int64_t fill(std::int64_t first) {
    windows_.clear();
    first_ = first;
    while (first + count() < plan_.size() && count() < rows_) {
      const Window w = plan_[first + count()];
      if (!windows_.empty() && w.score_last != windows_.front().score_last) break;
      windows_.push_back(w);
    }
    const auto last = static_cast<std::size_t>(windows_.front().score_last);
    targets_.assign(static_cast<std::size_t>(rows_) * last, 0);
    nll_.assign(targets_.size(), 0.0f);
    std::fill(inputs_.begin(), inputs_.end(), 0);
    const auto window = static_cast<std::size_t>(plan_.window());
    for (std::size_t r = 0; r < windows_.size(); ++r) {
      const Window& w = windows_[r];
      const auto length = static_cast<std::size_t>(w.length);
      tokens_.copy(w.start, std::span(inputs_).subspan(r * window, length));
      // Position p of the window stands at p - (S - last) of the returned ones; the target of p is token p
      // + 1.
      const std::size_t skipped = window - last;
      if (length > skipped)
        tokens_.copy(w.start + static_cast<std::int64_t>(skipped) + 1,
                     std::span(targets_).subspan(r * last, length - skipped));
    }
    return count();
  }

  void run(WindowScorer& model) { model.score(inputs_, targets_, windows_.front().score_last, nll_); }

  /// Enters the scored positions, window by window, in the plan's order.
  void commit(ScoreLedger& ledger, const ByteCounter& count_bytes) {
    const std::int32_t last = windows_.front().score_last;
    for (std::size_t r = 0; r < windows_.size(); ++r) {
      const Window& w = windows_[r];
      const auto n = static_cast<std::size_t>(w.length - w.score_from);
      const auto column = static_cast<std::size_t>(w.score_from - (plan_.window() - last));
      const auto nll = std::span<const float>(nll_).subspan(r * static_cast<std::size_t>(last) + column, n);
      bytes_.resize(n);
      for (std::size_t i = 0; i < n; ++i) {
        const std::int32_t position = w.score_from + static_cast<std::int32_t>(i);
        if (!std::isfinite(nll[i]))
          base::fail("score: the nll of target {} is {} (window {} from token {}, position {})",
                     w.start + position, std::isnan(nll[i]) ? "not a number" : "infinite",
                     first_ + static_cast<std::int64_t>(r), w.start, position);
        bytes_[i] = count_bytes(tokens_[w.start + position + 1], tokens_[w.start + position]);
      }
      ledger.commit(w.start + w.score_from, nll, bytes_);
    }
  }

 private:
  std::int64_t count() const { return static_cast<std::int64_t>(windows_.size()); }

  const WindowPlan& plan_;
  const TokenView& tokens_;
  int rows_;
  std::int64_t first_ = 0;
  std::vector<Window> windows_;
  std::vector<std::int32_t> inputs_, targets_, bytes_;
  std::vector<float> nll_;
};

LedgerOptions ledger_options(const WindowPlan& plan, const ScoreOptions& options) {
  LedgerOptions ledger;
  ledger.targets = plan.targets();
  if (plan.repeats_from() < plan.targets()) ledger.repeats_allowed_from = plan.repeats_from();
  for (std::int64_t start : options.documents)
    if (start < plan.targets()) ledger.documents.push_back(start);
  return ledger;
}

void report(const ScoreOptions& options, const ScoreLedger& ledger, std::int64_t done, std::int64_t total,
            double seconds) {
  if (!options.progress) return;
  base::Progress progress;
  progress.task = "score";
  progress.done = done;
  progress.total = total;
  progress.unit = "window";
  progress.rate_unit = "tokens";
  if (seconds > 0) progress.rate = static_cast<double>(ledger.tokens()) / seconds;
  progress.loss = ledger.loss();
  options.progress->update(progress);
}

}  // namespace

ScoreResult score(const WindowPlan& plan, TokenView tokens, WindowScorer& model, const ByteCounter& count,
                  const ScoreOptions& options) {
  base::check(tokens.size() == plan.targets() + plan.skipped_targets() + 1,
              "a plan of {} targets over {} tokens", plan.targets() + plan.skipped_targets(), tokens.size());
  base::check(model.rows() >= 1, "a scorer of {} rows", model.rows());
  base::Stopwatch watch;
  ScoreLedger ledger(ledger_options(plan, options));
  Batch batch(plan, tokens, model.rows());
  for (std::int64_t done = 0; done < plan.size();) {
    if (options.stop.stop_requested())
      throw base::Error(base::ErrorKind::interrupted,
                        fmt::format("scoring stopped after {} of {} windows", done, plan.size()));
    done += batch.fill(done);
    batch.run(model);
    batch.commit(ledger, count);
    report(options, ledger, done, plan.size(), watch.seconds());
  }
  ScoreResult result = result_of(ledger, options.byte_rule);
  result.windows = plan.size();
  result.skipped_targets = plan.skipped_targets();
  result.window = plan.window();
  result.stride = plan.stride();
  result.tail = plan.tail();
  result.seconds = watch.seconds();
  return result;
}

ScoreResult result_of(const ScoreLedger& ledger, std::string byte_rule) {
  ScoreResult result;
  result.loss = ledger.loss();
  result.bits_per_byte =
      ledger.bytes() > 0 ? ledger.bits_per_byte() : std::numeric_limits<double>::quiet_NaN();
  result.nll = ledger.nll();
  result.tokens = ledger.tokens();
  result.bytes = ledger.bytes();
  result.side_information_bits = ledger.side_bits();
  result.rule = std::move(byte_rule);
  result.verdict = ledger.verdict();
  result.documents = ledger.documents();
  return result;
}

std::string ScoreResult::to_json() const {
  nlohmann::ordered_json j;
  j["loss"] = loss;
  j["tokens"] = tokens;
  j["bytes"] = bytes;
  j["bits_per_byte"] = std::isfinite(bits_per_byte) ? nlohmann::ordered_json(bits_per_byte) : nullptr;
  j["rule"] = rule;
  j["verdict"] = verdict.text();
  j["notes"] = verdict.notes;
  j["nll"] = nll;
  j["side_information_bits"] = side_information_bits;
  j["window"] = window;
  j["stride"] = stride;
  j["tail"] = tail_name(tail);
  j["windows"] = windows;
  j["skipped_targets"] = skipped_targets;
  j["seconds"] = seconds;
  if (!documents.empty()) {
    auto& list = j["documents"] = nlohmann::ordered_json::array();
    for (const auto& d : documents)
      list.push_back(
          {{"first_target", d.first_target}, {"tokens", d.tokens}, {"bytes", d.bytes}, {"nll", d.nll}});
  }
  return j.dump();
}

}  // namespace fairway::score
