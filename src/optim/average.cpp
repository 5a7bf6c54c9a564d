#include "fairway/optim/average.h"

#include "blocks.h"
#include "fairway/base/error.h"
#include "shared.h"

namespace fairway::optim {

Ema::Ema(double decay, std::span<const float> initial, tensor::DType storage)
    : decay_(decay), storage_(storage), average_(initial.begin(), initial.end()) {
  if (storage_ == tensor::DType::bf16)
    kernels::round_bf16(average_.data(), static_cast<std::int64_t>(average_.size()));
}

void Ema::start(std::span<const float> values) {
  base::check(values.size() == average_.size(), "ema: {} values for {}", values.size(), average_.size());
  std::copy(values.begin(), values.end(), average_.begin());
  if (storage_ == tensor::DType::bf16)
    kernels::round_bf16(average_.data(), static_cast<std::int64_t>(average_.size()));
  ++count_;
}

void Ema::update(std::span<const float> values, base::ThreadPool& pool) {
  base::check(values.size() == average_.size(), "ema: {} values for {}", values.size(), average_.size());
  const auto keep = static_cast<float>(decay_), take = static_cast<float>(1.0 - decay_);
  for_blocks(pool, static_cast<std::int64_t>(average_.size()), [&](std::int64_t begin, std::int64_t n) {
    float* average = average_.data() + begin;
    kernels::combine(average, keep, values.data() + begin, take, average, n);
    if (storage_ == tensor::DType::bf16) kernels::round_bf16(average, n);
  });
  ++count_;
}

std::vector<StateBuffer> Ema::state(const std::string& prefix) {
  return {{prefix + "ema.count", std::as_writable_bytes(std::span(&count_, 1))},
          {prefix + "ema", std::as_writable_bytes(std::span(average_))}};
}

Swa::Swa(std::int64_t elements, std::vector<base::Range> bf16_ranges)
    : sum_(static_cast<std::size_t>(elements)), bf16_ranges_(std::move(bf16_ranges)) {
  for (const auto& range : bf16_ranges_)
    base::check(range.begin >= 0 && range.begin <= range.end && range.end <= elements,
                "swa: a range is [{}, {}) of {}", range.begin, range.end, elements);
}

void Swa::add(std::span<const float> values, base::ThreadPool& pool) {
  base::check(values.size() == sum_.size(), "swa: {} values for {}", values.size(), sum_.size());
  const float keep = count_ == 0 ? 0.0f : 1.0f;
  for_blocks(pool, static_cast<std::int64_t>(sum_.size()), [&](std::int64_t begin, std::int64_t n) {
    kernels::combine(sum_.data() + begin, keep, values.data() + begin, 1.0f, sum_.data() + begin, n);
  });
  for (const auto& range : bf16_ranges_) kernels::round_bf16(sum_.data() + range.begin, range.size());
  ++count_;
}

void Swa::mean(std::span<float> out, base::ThreadPool& pool) const {
  base::check(out.size() == sum_.size() && count_ > 0, "swa: {} snapshots, {} values for {}", count_,
              out.size(), sum_.size());
  for_blocks(pool, static_cast<std::int64_t>(sum_.size()), [&](std::int64_t begin, std::int64_t n) {
    std::copy_n(sum_.data() + begin, n, out.data() + begin);
    kernels::divide(out.data() + begin, n, static_cast<float>(count_));
  });
  for (const auto& range : bf16_ranges_) kernels::round_bf16(out.data() + range.begin, range.size());
}

std::vector<StateBuffer> Swa::state(const std::string& prefix) {
  return {{prefix + "swa.count", std::as_writable_bytes(std::span(&count_, 1))},
          {prefix + "swa.sum", std::as_writable_bytes(std::span(sum_))}};
}

MeanSquares::MeanSquares(std::vector<ParamRange> matrices)
    : matrices_(std::move(matrices)), sums_(matrices_.size() + 1) {}

void MeanSquares::add(std::span<const float> gradients, base::ThreadPool& pool) {
  // A matrix is one thread's: its sum has one order whatever the number of threads.
  const auto one = [&](std::int64_t i) {
    const auto part = matrices_[static_cast<std::size_t>(i)].range.of(gradients);
    double sum = 0;
    for (const float g : part) sum += static_cast<double>(g) * static_cast<double>(g);
    sums_[static_cast<std::size_t>(i)] += sum / static_cast<double>(part.size());
  };
  pool.run(static_cast<std::int64_t>(matrices_.size()), std::cref(one));
  sums_.back() += 1;
}

std::map<std::string, double> MeanSquares::mean() const { return mean_by_name(matrices_, sums_); }

std::vector<StateBuffer> MeanSquares::state() {
  return {{"sensitivity.sums", std::as_writable_bytes(std::span(sums_))}};
}

}  // namespace fairway::optim
