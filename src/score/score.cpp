#include "fairway/score/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/score/ppm.h"
#include "fairway/score/window_runner.h"

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

LedgerOptions ledger_options(const WindowPlan& plan, const TextSource& text) {
  LedgerOptions ledger;
  ledger.targets = plan.targets();
  if (plan.repeats_from() < plan.targets()) ledger.repeats_allowed_from = plan.repeats_from();
  if (text) ledger.text = text(plan.targets());
  return ledger;
}

ScoreResult score(const WindowPlan& plan, TokenView tokens, WindowScorer& model, const ByteCounter& count,
                  const ScoreOptions& options) {
  base::check(tokens.size() == plan.targets() + plan.skipped_targets() + 1,
              "a plan of {} targets over {} tokens", plan.targets() + plan.skipped_targets(), tokens.size());
  base::check(model.rows() >= 1, "a scorer of {} rows", model.rows());
  base::Stopwatch watch;
  ScoreLedger ledger(ledger_options(plan, options.text));
  WindowRunner runner(tokens, plan.window(), model);
  std::optional<PpmBlend> ppm;
  if (options.ppm_weight > 0) ppm.emplace(options.vocab_size, options.ppm_weight);
  std::vector<std::int32_t> bytes;
  std::vector<Window> batch;
  for (std::int64_t done = 0; done < plan.size();) {
    if (options.stop.stop_requested())
      throw base::Error(base::ErrorKind::interrupted,
                        fmt::format("scoring stopped after {} of {} windows", done, plan.size()));
    batch.assign(1, plan[done]);
    for (auto i = done + 1; i < plan.size() && i < done + model.rows(); ++i) {
      if (plan[i].score_last != batch[0].score_last) break;
      batch.push_back(plan[i]);
    }
    runner.run(batch, done, [&](const Window& w, std::span<const float> nll) {
      count_bytes(tokens, w, count, bytes);
      const std::int64_t first = w.start + w.score_from;
      ledger.commit(first, ppm ? ppm->apply(first, tokens, nll) : nll, bytes);
    });
    done += static_cast<std::int64_t>(batch.size());
    report(options, ledger, done, plan.size(), watch.seconds());
  }
  ScoreResult result = result_of(ledger, options.byte_rule);
  if (ppm) result.verdict.notes.push_back(ppm->note());
  result.windows = plan.size();
  result.skipped_targets = plan.skipped_targets();
  result.window = plan.window();
  result.stride = plan.stride();
  result.by_documents = plan.by_documents();
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
  result.text_bytes = ledger.text_bytes();
  result.side_information_bits = ledger.side_bits();
  result.rule = std::move(byte_rule);
  result.verdict = ledger.verdict();
  result.documents = ledger.documents();
  return result;
}

nlohmann::ordered_json ScoreResult::to_json() const {
  nlohmann::ordered_json j;
  j["loss"] = loss;
  j["tokens"] = tokens;
  j["bytes"] = bytes;
  j["text_bytes"] = text_bytes;
  j["bits_per_byte"] = std::isfinite(bits_per_byte) ? nlohmann::ordered_json(bits_per_byte) : nullptr;
  j["rule"] = rule;
  j["verdict"] = verdict.text();
  j["notes"] = verdict.notes;
  j["nll"] = nll;
  j["side_information_bits"] = side_information_bits;
  j["window"] = window;
  j["stride"] = stride;
  if (by_documents) j["by_documents"] = true;
  j["tail"] = base::name_of(tail);
  j["windows"] = windows;
  j["skipped_targets"] = skipped_targets;
  j["seconds"] = seconds;
  if (!documents.empty()) {
    auto& list = j["documents"] = nlohmann::ordered_json::array();
    for (const auto& d : documents)
      list.push_back({{"first_target", d.first_target},
                      {"tokens", d.tokens},
                      {"bytes", d.bytes},
                      {"text_bytes", d.text_bytes},
                      {"nll", d.nll}});
  }
  return j;
}

}  // namespace fairway::score
