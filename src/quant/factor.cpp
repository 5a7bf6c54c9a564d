#include "factor.h"

#include <algorithm>
#include <numeric>

#include "cholesky.h"
#include "fairway/base/error.h"
#include "fairway/base/hash.h"
#include "fairway/quant/hadamard.h"

namespace fairway::quant {
namespace {

/// GPTQ asks for U of H^-1 = U^T U and hands error / U_jj on along U_jt. With J reversing the order, one
/// factorisation J H J = L L^T gives H = R R^T, R = J L J upper, and U = R^-1 (docs/spec/leaders.md section
/// 8). We need no inverse: the loss |(w - q) R|^2 is a sum over columns t of (sum over j <= t of (w_j - q_j)
/// R_jt)^2, so given those before, column t is best at w_t + sum over j < t of (w_j - q_j) R_jt / R_tt, which
/// is where U's errors lead too.
Factor factorise(std::string_view name, std::span<const float> hessian, std::int64_t n, double damping,
                 base::ThreadPool& pool) {
  Factor f;
  std::vector<double> diagonal(static_cast<std::size_t>(n));
  double mean = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double d = hessian[static_cast<std::size_t>(i * n + i)];
    f.dead.push_back(d == 0);
    mean += diagonal[static_cast<std::size_t>(i)] = d == 0 ? 1 : d;
  }
  mean /= static_cast<double>(n);
  f.order.resize(static_cast<std::size_t>(n));
  std::iota(f.order.begin(), f.order.end(), 0);
  std::ranges::stable_sort(f.order, [&](std::int64_t a, std::int64_t b) {
    return diagonal[static_cast<std::size_t>(a)] > diagonal[static_cast<std::size_t>(b)];
  });
  TiledMatrix h(n);
  const auto from = [&](std::int64_t i) { return f.order[static_cast<std::size_t>(n - 1 - i)]; };
  pool.run(n, [&](std::int64_t i) {
    const float* source = hessian.data() + from(i) * n;
    for (std::int64_t j = 0; j < i; ++j) h.row(i)[j] = source[from(j)];
    h.row(i)[i] = diagonal[static_cast<std::size_t>(from(i))] + damping * mean;
  });
  if (const auto bad = cholesky(h, pool); bad >= 0)
    base::fail_input(
        "{}: the Hessian of what it multiplies is not positive definite (column {}); calibrate on "
        "more text or raise quant.damping_*",
        name, from(bad));
  f.feedback.resize(static_cast<std::size_t>(n * n));
  pool.run(n, [&](std::int64_t t) {
    const std::int64_t b = n - 1 - t;
    float* row = f.feedback.data() + t * n;
    for (std::int64_t j = 0; j < t; ++j) row[j] = static_cast<float>(h.row(n - 1 - j)[b] / h.row(b)[b]);
  });
  return f;
}

}  // namespace

const Factor& Factors::of(std::string_view name, std::span<const float> hessian, std::int64_t n,
                          const FactorOptions& options, base::ThreadPool& pool) {
  const auto hash = base::hash64(std::as_bytes(hessian));
  if (n == n_ && hash == hash_ && options.damping == options_.damping && options.rotated == options_.rotated)
    return last_;
  n_ = -1;  // nothing is kept if this one fails
  if (options.rotated) {
    std::vector<float> rotated(hessian.begin(), hessian.end());
    rotate_both(rotated, n, pool);
    last_ = factorise(name, rotated, n, options.damping, pool);
  } else {
    last_ = factorise(name, hessian, n, options.damping, pool);
  }
  hash_ = hash, n_ = n, options_ = options;
  ++made_;
  return last_;
}

}  // namespace fairway::quant
