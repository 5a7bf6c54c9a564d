#include "fairway/score/window_runner.h"

#include <algorithm>
#include <cmath>

#include "fairway/base/error.h"

namespace fairway::score {

WindowRunner::WindowRunner(TokenView tokens, std::int32_t window, WindowScorer& model)
    : tokens_(tokens), window_(window), model_(model) {
  inputs_.resize(static_cast<std::size_t>(model.rows()) * static_cast<std::size_t>(window));
}

void WindowRunner::run(std::span<const Window> windows, std::int64_t number, const WindowSink& sink) {
  while (!windows.empty()) {
    // One call takes windows that need the same number of positions.
    std::size_t n = 0;
    while (n < windows.size() && n < static_cast<std::size_t>(model_.rows()) &&
           windows[n].score_last == windows[0].score_last)
      ++n;
    const auto batch = windows.first(n);
    fill(batch);
    model_.score(inputs_, targets_, batch[0].score_last, nll_);
    deliver(batch, number, sink);
    number += static_cast<std::int64_t>(n);
    windows = windows.subspan(n);
  }
}

void WindowRunner::fill(std::span<const Window> batch) {
  const auto last = static_cast<std::size_t>(batch[0].score_last);
  const auto window = static_cast<std::size_t>(window_);
  targets_.assign(static_cast<std::size_t>(model_.rows()) * last, 0);
  nll_.assign(targets_.size(), 0.0f);
  std::ranges::fill(inputs_, 0);
  for (std::size_t r = 0; r < batch.size(); ++r) {
    const Window& w = batch[r];
    const auto length = static_cast<std::size_t>(w.length);
    const auto before =
        static_cast<std::size_t>(std::max<std::int64_t>(0, -w.start));  // the text's beginning
    if (length > before)
      tokens_.copy(w.start + static_cast<std::int64_t>(before),
                   std::span(inputs_).subspan(r * window + before, length - before));
    // Position p of the window stands at p - (S - last) of the returned ones; the target of p is token p + 1.
    const std::size_t skipped = window - last, first = std::max(skipped, before);
    if (length > first)
      tokens_.copy(w.start + static_cast<std::int64_t>(first) + 1,
                   std::span(targets_).subspan(r * last + first - skipped, length - first));
  }
}

void WindowRunner::deliver(std::span<const Window> batch, std::int64_t number, const WindowSink& sink) const {
  const std::int32_t last = batch[0].score_last;
  for (std::size_t r = 0; r < batch.size(); ++r) {
    const Window& w = batch[r];
    const auto n = static_cast<std::size_t>(w.length - w.score_from);
    const auto column = static_cast<std::size_t>(w.score_from - (window_ - last));
    const auto nll = std::span<const float>(nll_).subspan(r * static_cast<std::size_t>(last) + column, n);
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t position = w.score_from + static_cast<std::int32_t>(i);
      if (!std::isfinite(nll[i]))
        base::fail("score: the nll of target {} is {} (window {} from token {}, position {})",
                   w.start + position, std::isnan(nll[i]) ? "not a number" : "infinite",
                   number + static_cast<std::int64_t>(r), w.start, position);
    }
    sink(w, nll);
  }
}

void count_bytes(const TokenView& tokens, const Window& window, const ByteCounter& count,
                 std::vector<std::int32_t>& bytes) {
  bytes.clear();
  for (std::int64_t t = window.start + window.score_from; t < window.start + window.length; ++t)
    bytes.push_back(count(tokens, t));
}

}  // namespace fairway::score
