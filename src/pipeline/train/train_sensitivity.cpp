#include "train/train_sensitivity.h"

#include "fairway/base/error.h"

namespace fairway::pipeline {

GradientSquares::GradientSquares(const graph::ParameterLayout& layout) {
  for (const auto& p : layout.parameters())
    if (p.group == graph::Group::matrix)
      matrices_.push_back(
          {p.name, static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.elements())});
  sums_.assign(matrices_.size() + 1, 0.0);
}

GradientSquares::GradientSquares(const graph::ParameterLayout& layout, std::vector<double> sums)
    : GradientSquares(layout) {
  base::check(sums.size() == sums_.size(), "{} sums of {} matrices", sums.size(), matrices_.size());
  sums_ = std::move(sums);
}

void GradientSquares::add(std::span<const float> gradients, base::ThreadPool& pool) {
  // A matrix is one thread's: its sum has one order whatever the number of threads.
  pool.run(static_cast<std::int64_t>(matrices_.size()), [&](std::int64_t i) {
    const auto& m = matrices_[static_cast<std::size_t>(i)];
    double sum = 0;
    for (const float g : gradients.subspan(m.offset, m.elements))
      sum += static_cast<double>(g) * static_cast<double>(g);
    sums_[static_cast<std::size_t>(i)] += sum / static_cast<double>(m.elements);
  });
  sums_.back() += 1;
}

quant::Sensitivity GradientSquares::mean() const {
  quant::Sensitivity result;
  if (sums_.back() == 0) return result;
  for (std::size_t i = 0; i < matrices_.size(); ++i) result[matrices_[i].name] = sums_[i] / sums_.back();
  return result;
}

std::vector<optim::StateBuffer> GradientSquares::state() {
  return {{"sensitivity.sums", std::as_writable_bytes(std::span(sums_))}};
}

}  // namespace fairway::pipeline
