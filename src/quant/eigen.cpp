#include "eigen.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "fairway/base/error.h"
#include "tile_kernels.h"

namespace fairway::quant {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// A tridiagonal matrix T = Q A Q^T and the rows of Q.
struct Tridiagonal {
  std::vector<double> diagonal, beside;  ///< beside[i] couples i and i + 1
  std::vector<double> q;
};

/// Reflections I - 2 v v^T from the left column on; each makes one column tridiagonal.
Tridiagonal tridiagonal(std::vector<double>& a, std::int64_t n) {
  Tridiagonal t{std::vector<double>(at(n)), std::vector<double>(at(n)), std::vector<double>(at(n * n))};
  for (std::int64_t i = 0; i < n; ++i) t.q[at(i * n + i)] = 1;
  std::vector<double> v(at(n)), p(at(n));
  for (std::int64_t k = 0; k + 2 < n; ++k) {
    double norm = 0;
    for (std::int64_t i = k + 1; i < n; ++i) norm += a[at(k * n + i)] * a[at(k * n + i)];
    norm = std::sqrt(norm);
    if (norm == 0) continue;
    std::fill(v.begin(), v.end(), 0.0);
    for (std::int64_t i = k + 1; i < n; ++i) v[at(i)] = a[at(k * n + i)];
    v[at(k + 1)] += v[at(k + 1)] < 0 ? -norm : norm;
    double length = 0;
    for (std::int64_t i = k + 1; i < n; ++i) length += v[at(i)] * v[at(i)];
    length = std::sqrt(length);
    for (std::int64_t i = k + 1; i < n; ++i) v[at(i)] /= length;
    // A - 2 v p^T - 2 p v^T with p = A v - (v^T A v) v, and Q - 2 v (v^T Q).
    kernels::times_vector(a.data(), n, k, v.data(), p.data());
    double along = 0;
    for (std::int64_t i = k; i < n; ++i) along += v[at(i)] * p[at(i)];
    for (std::int64_t i = k; i < n; ++i) p[at(i)] -= along * v[at(i)];
    kernels::add_outer(a.data(), n, k, -2, v.data(), p.data());
    kernels::add_outer(a.data(), n, k, -2, p.data(), v.data());
    std::fill(p.begin(), p.end(), 0.0);
    for (std::int64_t i = k + 1; i < n; ++i) kernels::add_scaled(v[at(i)], t.q.data() + i * n, n, p.data());
    for (std::int64_t i = k + 1; i < n; ++i)
      kernels::add_scaled(-2 * v[at(i)], p.data(), n, t.q.data() + i * n);
  }
  for (std::int64_t i = 0; i < n; ++i) t.diagonal[at(i)] = a[at(i * n + i)];
  for (std::int64_t i = 0; i + 1 < n; ++i) t.beside[at(i)] = a[at(i * n + i + 1)];
  return t;
}

/// Rotates T's rows and columns until nothing stands beside the diagonal; the rows of q become eigenvectors.
void diagonalise(Tridiagonal& t, std::int64_t n) {
  auto &d = t.diagonal, &e = t.beside;
  for (std::int64_t first = 0; first < n; ++first)
    for (int sweep = 0;; ++sweep) {
      std::int64_t last = first;  // of the part that hangs together
      while (last + 1 < n &&
             std::fabs(e[at(last)]) > std::numeric_limits<double>::epsilon() *
                                          (std::fabs(d[at(last)]) + std::fabs(d[at(last + 1)])))
        ++last;
      if (last == first) break;
      base::check(sweep < 100, "eigenvalues do not converge");
      double g = (d[at(first + 1)] - d[at(first)]) / (2 * e[at(first)]);
      double r = std::hypot(g, 1.0);
      g = d[at(last)] - d[at(first)] + e[at(first)] / (g + std::copysign(r, g));
      double s = 1, c = 1, p = 0;
      std::int64_t i = last - 1;
      for (; i >= first; --i) {
        const double f = s * e[at(i)], b = c * e[at(i)];
        e[at(i + 1)] = r = std::hypot(f, g);
        if (r == 0) break;
        s = f / r, c = g / r;
        g = d[at(i + 1)] - p;
        r = (d[at(i)] - g) * s + 2 * c * b;
        p = s * r;
        d[at(i + 1)] = g + p;
        g = c * r - b;
        kernels::rotate(c, s, t.q.data() + i * n, t.q.data() + (i + 1) * n, n);
      }
      if (r == 0 && i >= first) {
        d[at(i + 1)] -= p;
        e[at(last)] = 0;
        continue;
      }
      d[at(first)] -= p;
      e[at(first)] = g;
      e[at(last)] = 0;
    }
}

}  // namespace

Eigen eigen_symmetric(std::vector<double> matrix, std::int64_t n) {
  auto t = tridiagonal(matrix, n);
  diagonalise(t, n);
  std::vector<std::int64_t> order(at(n));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](auto a, auto b) { return t.diagonal[at(a)] > t.diagonal[at(b)]; });
  Eigen result;
  for (const auto i : order) {
    result.values.push_back(t.diagonal[at(i)]);
    result.vectors.insert(result.vectors.end(), t.q.begin() + i * n, t.q.begin() + (i + 1) * n);
  }
  return result;
}

}  // namespace fairway::quant
