#include "fairway/adapt/text_plan.h"

#include <algorithm>
#include <numeric>

#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/dist/communicator.h"

namespace fairway::adapt {

using base::fail_input;

std::int64_t shard_batches(std::int64_t targets, std::int64_t window, std::int64_t batch) {
  const std::int64_t starts = targets - window;  // starts 0, batch window, ... below this
  return starts <= 0 ? 0 : (starts + batch * window - 1) / (batch * window);
}

std::int64_t shard_batch_windows(std::int64_t targets, std::int64_t window, std::int64_t batch,
                                 std::int64_t index) {
  return std::min(batch, (targets - index * batch * window) / window);
}

namespace {

[[noreturn]] void too_short(std::int64_t targets, std::int64_t needed, const Protocol& p) {
  fail_input(
      "the text has {} tokens, too few to adapt on: adapt.virtual_ranks = {} with adapt.batch_windows = {}, "
      "adapt.chunk_windows = {} need at least {}",
      targets + 1, p.virtual_ranks, p.batch_windows, p.chunk_windows, needed + 1);
}

/// Whole windows that hold at least `targets`.
std::int64_t round_up(std::int64_t targets, std::int64_t window) {
  return (targets + window - 1) / window * window;
}

}  // namespace

EpochPlan::EpochPlan(const Protocol& p, std::int64_t targets, int window)
    : protocol_(p), targets_(targets / window * window), window_(window) {
  if (std::ranges::none_of(p.phases, [](const Phase& phase) { return phase.epochs > 0; })) return;
  const std::int64_t n = targets_ / window_, ranks = p.virtual_ranks, batch = p.batch_windows;
  if (p.shards == Shards::targets) {
    const std::int64_t shard = targets_ / ranks;
    steps_ = shard_batches(shard, window_, batch);
    if (steps_ == 0) too_short(targets, round_up(ranks * (window_ + 1), window_), p);
    // The published scripts' length of an epoch, one step short (docs/spec/ttt.md section 6).
    schedule_steps_ = std::max<std::int64_t>(1, (shard - window_) / (batch * window_));
    for (std::int64_t i = 0; i < steps_; ++i)
      windows_ += ranks * shard_batch_windows(shard, window_, batch, i);
    return;
  }
  if (p.order == Order::permuted) {
    if (n == 0) too_short(targets, window_, p);
    const std::int64_t global = ranks * batch;
    windows_ = n < global ? n : n / global * global;
    steps_ = (windows_ + global - 1) / global;
  } else {
    if (n < ranks) too_short(targets, ranks * window_, p);
    windows_ = n;
    for (std::int64_t r = 0; r < ranks; ++r)
      steps_ = std::max(steps_, (dist::share(n, r, ranks).size() + batch - 1) / batch);
  }
  schedule_steps_ = steps_;
}

std::vector<std::int64_t> EpochPlan::order(int phase, int epoch) const {
  if (protocol_.order != Order::permuted) return {};
  // Only the usable windows are permuted, so that the last ones of the text are never trained on
  // (docs/spec/ttt.md section 3).
  std::vector<std::int64_t> order(static_cast<std::size_t>(windows_));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  const base::Random random(protocol_.seed, fmt::format("adapt/order/{}/{}", phase, epoch));
  for (auto i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i, i)]);
  return order;
}

std::vector<RankBatch> EpochPlan::step(const std::vector<std::int64_t>& order, std::int64_t index) const {
  if (protocol_.shards == Shards::targets) return shard_step(index);
  const std::int64_t ranks = protocol_.virtual_ranks, batch = protocol_.batch_windows;
  const bool permuted = protocol_.order == Order::permuted;
  std::vector<RankBatch> result;
  for (std::int64_t r = 0; r < ranks; ++r) {
    const auto own = permuted ? base::Range{0, windows_} : dist::share(windows_, r, ranks);
    const std::int64_t first = own.begin + (permuted ? (index * ranks + r) * batch : index * batch);
    RankBatch part{static_cast<int>(r), {}};
    for (auto i = first; i < std::min(first + batch, own.end); ++i)
      part.windows.push_back((permuted ? order[static_cast<std::size_t>(i)] : i) * window_);
    if (!part.windows.empty()) result.push_back(std::move(part));
  }
  return result;
}

std::vector<RankBatch> EpochPlan::shard_step(std::int64_t index) const {
  const std::int64_t batch = protocol_.batch_windows, shard = targets_ / protocol_.virtual_ranks;
  const auto n = shard_batch_windows(shard, window_, batch, index);
  std::vector<RankBatch> result;
  for (int r = 0; r < protocol_.virtual_ranks; ++r) {
    RankBatch part{r, {}};
    for (std::int64_t w = 0; w < n; ++w) part.windows.push_back(r * shard + (index * batch + w) * window_);
    result.push_back(std::move(part));
  }
  return result;
}

namespace {

score::WindowPlan windows_of(std::int64_t tokens, int window, int stride, score::Tail tail) {
  return stride > 0 ? score::WindowPlan::sliding(tokens, window, stride, tail)
                    : score::WindowPlan::plain(tokens, window, tail);
}

}  // namespace

StreamPlan::StreamPlan(const Protocol& p, std::int64_t tokens, int window, int stride, score::Tail tail)
    : protocol_(p),
      plan_(windows_of(tokens, window, stride, tail)),
      window_(window),
      stride_(stride > 0 ? stride : window) {
  if (window % stride_ != 0)
    fail_input("score.stride = {}: adapting chunk by chunk needs a stride that divides model.window = {}",
               stride, window);
  if (stride_ != window_ && tail == score::Tail::published)
    fail_input(
        "score.tail = \"published\": it scores targets again; adapting chunk by chunk needs \"clean\"");
  if (p.shards == Shards::targets && (stride_ != window_ || tail != score::Tail::published))
    fail_input(
        "adapt.shards = \"targets\": scores windows side by side (score.stride = 0) and drops the "
        "ends (score.tail = \"published\")");
  const std::int64_t targets = plan_.targets(), ranks = p.virtual_ranks;
  for (int r = 0; r < ranks; ++r)
    if (chunks(r) == 0)
      too_short(targets,
                p.shards == Shards::targets ? round_up(ranks * (window_ + 1), window_) : ranks * window_, p);
  // The weights after a shard's last chunk score nothing.
  const bool trains = std::ranges::any_of(p.pass_lr, [](double factor) { return factor > 0; });
  if (trains && trained_windows() == 0)
    too_short(targets, round_up(ranks * (chunk_targets() + window_ + 1), window_), p);
}

std::int64_t StreamPlan::chunks(int rank) const {
  const std::int64_t targets = plan_.targets();
  if (protocol_.shards == Shards::targets)
    return shard_batches(targets / protocol_.virtual_ranks, window_, protocol_.chunk_windows);
  const auto own = dist::share((targets + window_ - 1) / window_, rank, protocol_.virtual_ranks);
  return (own.size() + protocol_.chunk_windows - 1) / protocol_.chunk_windows;
}

Chunk StreamPlan::chunk(int rank, std::int64_t index) const {
  const std::int64_t targets = plan_.targets();
  Chunk c;
  if (protocol_.shards == Shards::targets) {
    const std::int64_t shard = targets / protocol_.virtual_ranks;
    c.first = rank * shard + index * chunk_targets();
    c.count = shard_batch_windows(shard, window_, protocol_.chunk_windows, index) * window_;
    for (auto start = c.first; start < c.first + c.count; start += window_)
      c.scored.push_back({start, static_cast<std::int32_t>(window_), 0, static_cast<std::int32_t>(window_)});
  } else {
    const auto own = dist::share((targets + window_ - 1) / window_, rank, protocol_.virtual_ranks);
    const std::int64_t begin = own.begin + index * protocol_.chunk_windows;
    const std::int64_t end = std::min(begin + protocol_.chunk_windows, own.end);
    c.first = begin * window_;
    c.count = std::min(end * window_, targets) - c.first;
    // Window i > 0 of the plan scores targets [S + (i - 1) d, S + i d), window 0 the first S.
    auto upto = [&](std::int64_t t) { return t == 0 ? 0 : (t - window_ + stride_ - 1) / stride_ + 1; };
    const auto last = std::min(upto(std::max(c.first + c.count, window_)), plan_.size());
    for (auto i = upto(c.first); i < last; ++i) c.scored.push_back(plan_[i]);
  }
  for (auto start = c.first; start + window_ <= c.first + c.count; start += window_)
    c.trained.push_back(start);
  return c;
}

std::int64_t StreamPlan::scored_windows() const {
  std::int64_t n = 0;
  for (int r = 0; r < protocol_.virtual_ranks; ++r)
    for (std::int64_t i = 0; i < chunks(r); ++i) n += static_cast<std::int64_t>(chunk(r, i).scored.size());
  return n;
}

std::int64_t StreamPlan::trained_windows() const {
  std::int64_t n = 0;
  for (int r = 0; r < protocol_.virtual_ranks; ++r)
    for (std::int64_t i = 0; i + 1 < chunks(r); ++i)
      n += static_cast<std::int64_t>(chunk(r, i).trained.size());
  return n;
}

}  // namespace fairway::adapt
