#include "fairway/optim/gradient.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels.h"

namespace fairway::optim {

GradientNormer::GradientNormer(std::vector<std::span<const float>> gradients) {
  constexpr auto block = static_cast<std::size_t>(kernels::block);
  for (const auto& buffer : gradients)
    for (std::size_t begin = 0; begin < buffer.size(); begin += block)
      blocks_.push_back(buffer.subspan(begin, std::min(block, buffer.size() - begin)));
  sums_.resize(blocks_.size());
}

GradientNorm GradientNormer::operator()(base::ThreadPool& pool) {
  const auto body = [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    sums_[index] =
        kernels::sum_of_squares(blocks_[index].data(), static_cast<std::int64_t>(blocks_[index].size()));
  };
  pool.run(static_cast<std::int64_t>(blocks_.size()), std::cref(body));
  double total = 0.0;
  for (const double sum : sums_) total += sum;
  // Squares of finite floats cannot overflow fp64: a sum that is not finite means an input that is not.
  return {std::sqrt(total), std::isfinite(total)};
}

float clip_factor(double norm, double max_norm) {
  if (max_norm <= 0.0) return 1.0f;
  return static_cast<float>(std::min(1.0, max_norm / (norm + 1e-6)));
}

}  // namespace fairway::optim
