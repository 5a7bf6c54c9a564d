#include "cuda/gemm_table.h"

#include <cmath>
#include <cstddef>
#include <limits>

namespace fairway::ops::cuda {
namespace {

using tensor::DType;

constexpr std::int64_t long_side = 16'384;

// Written by `fairway bench RECIPE --tune-products FILE`; see docs/performance.md.
constexpr TunedGemm table[] = {
#include "cuda/gemm_table.inc"
    {},
};

/// How far two extents are apart: 0 when equal, a ratio when both are long, else infinite.
double distance(std::int64_t a, std::int64_t b) {
  if (a == b) return 0;
  if (a < long_side || b < long_side) return std::numeric_limits<double>::infinity();
  return std::abs(std::log(static_cast<double>(a) / static_cast<double>(b)));
}

double distance(const Gemm& a, const Gemm& b) {
  Gemm like = a;
  like.m = b.m, like.n = b.n, like.k = b.k;
  if (like != b) return std::numeric_limits<double>::infinity();
  return distance(a.m, b.m) + distance(a.n, b.n) + distance(a.k, b.k);
}

}  // namespace

const TunedGemm* find_tuned(std::size_t library, std::string_view gpu, const Gemm& gemm) {
  const TunedGemm* best = nullptr;
  double nearest = std::numeric_limits<double>::infinity();
  for (const auto& entry : table) {
    if (entry.library != library || entry.gpu != gpu) continue;
    const double d = distance(entry.gemm, gemm);
    if (d < nearest) nearest = d, best = &entry;
  }
  return best;
}

}  // namespace fairway::ops::cuda
