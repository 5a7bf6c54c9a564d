#include "feed.h"

#include <algorithm>
#include <numeric>

#include "fairway/adapt/machine.h"
#include "fairway/base/error.h"
#include "fairway/base/random.h"

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

Feed::Batch& Feed::free_batch() {
  auto& batch = batches_[sent_++ % batches_.size()];
  if (batch.copied) batch.copied->wait();
  return batch;
}

void Feed::write(graph::Program& program, Batch& batch) {
  program.write<std::int32_t>("tokens", batch.inputs.span());
  program.write<std::int32_t>("targets", batch.targets.span());
  program.write<float>("weights", batch.weights.span());
  if (batch.copied) batch.copied->record(*runtime_.cuda);
}

void Feed::send(graph::Program& program, std::span<const WeightedLesson> lessons) {
  auto& batch = free_batch();
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
  write(program, batch);
}

void Feed::send_noise(graph::Program& program, int vocabulary) {
  auto& batch = free_batch();
  fill_with_noise(batch.inputs.span(), vocabulary);
  fill_with_noise(batch.targets.span(), vocabulary);
  std::ranges::fill(batch.weights.span(), 1.0f / static_cast<float>(batch.weights.span().size()));
  write(program, batch);
}

void fill_with_noise(std::span<std::int32_t> tokens, int vocabulary) {
  const base::Random random(0, "adapt/noise");
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>(random.below(i, static_cast<std::uint64_t>(vocabulary)));
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
