#include "fairway/score/window_plan.h"

#include <algorithm>

#include "fairway/base/error.h"

namespace fairway::score {
namespace {

/// Windows of a sliding plan that start at 0, d, 2d, ... and have all S inputs.
std::int64_t full_windows(std::int64_t targets, std::int64_t window, std::int64_t stride) {
  return targets < window ? 0 : (targets - window) / stride + 1;
}

}  // namespace

WindowPlan WindowPlan::plain(std::int64_t tokens, std::int32_t window, Tail tail, std::int32_t lead) {
  if (lead > 0) return sliding(tokens, window, window - lead, tail, lead);
  auto plan = sliding(tokens, window, window, tail);
  // Windows that do not overlap have no tail to repeat: only the truncation of the published scripts remains.
  plan.windows_ = (plan.targets_ + window - 1) / window;
  return plan;
}

WindowPlan WindowPlan::documents(std::int64_t tokens, std::int32_t window,
                                 const std::function<bool(std::int64_t)>& begins) {
  auto plan = plain(tokens, window);
  std::vector<std::int64_t> starts = {0};
  std::int64_t piece = 0;
  // The piece that ends before `end` begins a window of its own where it does not fit into the last one.
  const auto close = [&](std::int64_t end) {
    if (end - starts.back() > window) starts.push_back(piece);
    piece = end;
  };
  for (std::int64_t i = 1; i < plan.targets_; ++i)
    if (i - piece == window || begins(i)) close(i);
  close(plan.targets_);
  plan.windows_ = std::ssize(starts);
  plan.starts_ = std::make_shared<const std::vector<std::int64_t>>(std::move(starts));
  return plan;
}

WindowPlan WindowPlan::sliding(std::int64_t tokens, std::int32_t window, std::int32_t stride, Tail tail,
                               std::int32_t lead) {
  if (window < 1) base::fail_input("evaluation window of {} tokens: it must be at least 1", window);
  base::check(lead >= 0, "lead = {}", lead);
  if (stride < 1 || stride > window - lead)
    base::fail_input("evaluation stride {}: it must be between 1 and the {} scored tokens of a window",
                     stride, window - lead);
  if (lead > 0 && tail == Tail::published)
    base::fail_input("the published tail has no windows whose first {} positions are not scored: use clean",
                     lead);
  if (tokens < 2)
    base::fail_input("nothing to score: the text has {} token(s), at least 2 are needed", tokens);
  WindowPlan plan;
  plan.window_ = window;
  plan.stride_ = stride;
  plan.lead_ = lead;
  plan.tail_ = tail;
  plan.targets_ = tokens - 1;
  if (tail == Tail::published) {
    // docs/spec/training.md section 1: U = floor((N - 1) / S) * S.
    plan.targets_ = (tokens - 1) / window * window;
    plan.skipped_ = tokens - 1 - plan.targets_;
    if (plan.targets_ == 0)
      base::fail_input(
          "text of {} tokens is shorter than one window of {}: use the clean tail or a shorter window",
          tokens, window);
    plan.windows_ = (plan.targets_ + stride - 1) / stride;
    return plan;
  }
  const std::int64_t positions = plan.targets_ + lead;
  const std::int64_t full = full_windows(positions, window, stride);
  const std::int64_t covered = full == 0 ? 0 : window + (full - 1) * stride;
  plan.windows_ = full + (covered < positions ? 1 : 0);
  return plan;
}

Window WindowPlan::operator[](std::int64_t index) const {
  base::check(index >= 0 && index < windows_, "window {} of {}", index, windows_);
  if (starts_) {
    const auto at = static_cast<std::size_t>(index);
    const auto start = (*starts_)[at], end = index + 1 < windows_ ? (*starts_)[at + 1] : targets_;
    return {start, static_cast<std::int32_t>(end - start), 0, window_};
  }
  Window w;
  w.start = index * stride_ - lead_;
  w.score_from = lead_;
  w.length = static_cast<std::int32_t>(std::min<std::int64_t>(window_, targets_ - w.start));
  if (index > 0 && stride_ < window_) {
    // Published: the last d positions of what is there. Clean: the positions that no earlier window scored,
    // which start at S - d in every later window.
    const std::int32_t end = tail_ == Tail::published ? w.length : window_;
    w.score_from = std::max(end - stride_, 0);
  }
  w.score_last = w.score_from >= window_ - stride_ ? stride_ : window_;
  return w;
}

std::int64_t WindowPlan::scored() const {
  if (tail_ == Tail::clean || stride_ == window_) return targets_;
  const std::int64_t full = full_windows(targets_, window_, stride_);
  std::int64_t count = window_ + (full - 1) * stride_;
  for (std::int64_t i = full; i < windows_; ++i) count += (*this)[i].length - (*this)[i].score_from;
  return count;
}

std::int64_t WindowPlan::repeats_from() const {
  if (tail_ == Tail::clean || stride_ == window_) return targets_;
  const std::int64_t full = full_windows(targets_, window_, stride_);
  return full < windows_ ? std::max<std::int64_t>(targets_ - stride_, 0) : targets_;
}

std::vector<std::int32_t> WindowPlan::score_lengths() const {
  if (lead_ + stride_ == window_) return {stride_};
  if (windows_ == 1) return {window_};
  return {window_, stride_};
}

}  // namespace fairway::score
