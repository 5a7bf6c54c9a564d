#include "feed.h"

#include <algorithm>
#include <numeric>

#include "fairway/adapt/machine.h"
#include "fairway/base/error.h"

namespace fairway::adapt {

namespace {

/// As many as the host may be ahead: one being read, one waiting, one being filled.
constexpr int device_batches = 3;

}  // namespace

Feed::Feed(const graph::Runtime& runtime, int rows, int window, std::size_t losses)
    : runtime_(runtime), window_(static_cast<std::size_t>(window)) {
  const auto tokens = static_cast<std::size_t>(rows) * window_;
  for (int i = 0; i < (runtime.cuda ? device_batches : 1); ++i) {
    batches_.push_back({{runtime, tokens}, {runtime, tokens}, {runtime, tokens}, {}});
    if (runtime.cuda) batches_.back().copied.emplace();
  }
  for (int i = 0; i < slots; ++i) losses_.push_back({{runtime, losses}, 0});
}

void Feed::send(graph::Program& program, std::span<const WeightedLesson> lessons) {
  auto& batch = batches_[sent_++ % batches_.size()];
  if (batch.copied) batch.copied->wait();
  const auto inputs = batch.inputs.span(), targets = batch.targets.span();
  const auto weights = batch.weights.span();
  base::check(lessons.size() * window_ <= inputs.size(), "more windows than a batch has rows");
  for (std::size_t r = 0; r < lessons.size(); ++r) {
    lessons[r].lesson.inputs(inputs.subspan(r * window_, window_));
    lessons[r].lesson.targets(targets.subspan(r * window_, window_));
    std::ranges::fill(weights.subspan(r * window_, window_),
                      static_cast<float>(lessons[r].weight / static_cast<double>(window_)));
  }
  const auto used = lessons.size() * window_;
  std::ranges::fill(inputs.subspan(used), 0);
  std::ranges::fill(targets.subspan(used), 0);
  std::ranges::fill(weights.subspan(used), 0.0f);
  program.write<std::int32_t>("tokens", inputs);
  program.write<std::int32_t>("targets", targets);
  program.write<float>("weights", weights);
  if (batch.copied) batch.copied->record(*runtime_.cuda);
}

void Feed::clear(int slot) { losses_[static_cast<std::size_t>(slot)].count = 0; }

void Feed::receive(graph::Program& program, int slot) {
  auto& losses = losses_[static_cast<std::size_t>(slot)];
  base::check(losses.count < losses.values.span().size(), "a step of more than {} batches", losses.count);
  const auto to = losses.values.span().subspan(losses.count++, 1);
  if (runtime_.cuda)
    ops::cuda::download(*runtime_.cuda, to.data(), program.view("loss").data, sizeof(float));
  else
    program.read<float>("loss", to);
}

double Feed::sum(int slot) {
  auto& losses = losses_[static_cast<std::size_t>(slot)];
  const auto values = losses.values.span().first(losses.count);
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace fairway::adapt
