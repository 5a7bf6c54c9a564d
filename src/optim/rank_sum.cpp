#include "rank_sum.h"

#include <algorithm>

#include "blocks.h"

namespace fairway::optim {

void RankSum::clear() {
  std::ranges::fill(sum_, 0.0f);
  norms_ = 0;
  finite_ = true;
}

void RankSum::add(std::span<float> gradients, const GradientNorm& part, base::ThreadPool& pool) {
  const double norm = part.norm * ranks_;
  norms_ += norm;
  finite_ = finite_ && part.finite;
  const float clip = clip_factor(norm, max_norm_);
  for_blocks(pool, static_cast<std::int64_t>(sum_.size()), [&](std::int64_t begin, std::int64_t n) {
    kernels::add_scaled(gradients.data() + begin, clip, sum_.data() + begin, n);
    std::fill_n(gradients.data() + begin, n, 0.0f);
  });
}

GradientNorm RankSum::norm() const { return {norms_ / ranks_, finite_}; }

}  // namespace fairway::optim
