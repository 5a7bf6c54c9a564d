#include "fairway/quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fairway/base/error.h"

namespace fairway::quant {
namespace {

using Square = std::vector<double>;

std::size_t at(std::int64_t row, std::int64_t column, std::int64_t n) {
  return static_cast<std::size_t>(row * n + column);
}

/// L of H = L L^T in the lower half, column by column. The first column whose pivot is not positive, or -1.
std::int64_t cholesky(Square& h, std::int64_t n) {
  std::vector<double> column(static_cast<std::size_t>(n));
  for (std::int64_t k = 0; k < n; ++k) {
    const double pivot = h[at(k, k, n)];
    if (!(pivot > 0) || !std::isfinite(pivot)) return k;
    const double root = std::sqrt(pivot);
    h[at(k, k, n)] = root;
    for (std::int64_t i = k + 1; i < n; ++i)
      column[static_cast<std::size_t>(i)] = h[at(i, k, n)] = h[at(i, k, n)] / root;
    for (std::int64_t i = k + 1; i < n; ++i) {
      const double factor = column[static_cast<std::size_t>(i)];
      double* row = h.data() + i * n;
      for (std::int64_t j = k + 1; j <= i; ++j) row[j] -= factor * column[static_cast<std::size_t>(j)];
    }
  }
  return -1;
}

/// The inverse of a lower triangle, row by row.
Square inverse(const Square& l, std::int64_t n) {
  Square x(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    double* row = x.data() + i * n;
    for (std::int64_t k = 0; k < i; ++k) {
      const double factor = l[at(i, k, n)];
      const double* other = x.data() + k * n;
      for (std::int64_t j = 0; j <= k; ++j) row[j] -= factor * other[j];
    }
    row[i] = 1;
    for (std::int64_t j = 0; j <= i; ++j) row[j] /= l[at(i, i, n)];
  }
  return x;
}

struct Columns {
  std::vector<std::int64_t> order;  ///< by descending diagonal
  std::vector<bool> dead;           ///< no input reaches them
  std::vector<float> upper;         ///< U of H^-1 = U^T U, of the columns in that order
};

/// With J reversing the order: J H J = L L^T, so H = R R^T with R = J L J and U = R^-1 = J L^-1 J: one
/// factorisation (docs/spec/leaders.md section 8).
Columns prepare(const std::string& name, std::span<const float> hessian, std::int64_t n, double damping) {
  Columns c;
  std::vector<double> diagonal(static_cast<std::size_t>(n));
  double mean = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double d = hessian[at(i, i, n)];
    c.dead.push_back(d == 0);
    mean += diagonal[static_cast<std::size_t>(i)] = d == 0 ? 1 : d;
  }
  mean /= static_cast<double>(n);
  c.order.resize(static_cast<std::size_t>(n));
  std::iota(c.order.begin(), c.order.end(), 0);
  std::ranges::stable_sort(c.order, [&](std::int64_t a, std::int64_t b) {
    return diagonal[static_cast<std::size_t>(a)] > diagonal[static_cast<std::size_t>(b)];
  });
  Square h(static_cast<std::size_t>(n * n));
  const auto from = [&](std::int64_t i) { return c.order[static_cast<std::size_t>(n - 1 - i)]; };
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      h[at(i, j, n)] = i == j ? diagonal[static_cast<std::size_t>(from(i))] + damping * mean
                              : hessian[at(from(i), from(j), n)];
  if (const auto bad = cholesky(h, n); bad >= 0)
    base::fail_input(
        "{}: the Hessian of what it multiplies is not positive definite (column {}); calibrate on "
        "more text",
        name, from(bad));
  const Square l = inverse(h, n);
  c.upper.resize(l.size());
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i; j < n; ++j)
      c.upper[at(i, j, n)] = static_cast<float>(l[at(n - 1 - i, n - 1 - j, n)]);
  return c;
}

/// fp16(max(clip sigma / q_max, 1e-10)) with the sample deviation; never zero.
tensor::f16 row_scale(std::span<const float> row, const GptqOptions& o) {
  double mean = 0, squares = 0;
  for (const float v : row) mean += v;
  mean /= static_cast<double>(row.size());
  for (const float v : row) squares += (v - mean) * (v - mean);
  const double deviation = row.size() > 1 ? std::sqrt(squares / static_cast<double>(row.size() - 1)) : 0;
  const auto scale = tensor::to_f16(static_cast<float>(std::max(o.clip * deviation / o.q_max, 1e-10)));
  return tensor::to_float(scale) > 0 ? scale : tensor::f16{1};
}

void quantize_row(std::span<const float> values, const Columns& c, float scale, const GptqOptions& o,
                  std::int8_t* q) {
  const auto n = static_cast<std::int64_t>(values.size());
  std::vector<float> w;
  for (const auto j : c.order)
    w.push_back(c.dead[static_cast<std::size_t>(j)] ? 0 : values[static_cast<std::size_t>(j)]);
  std::vector<float> later(static_cast<std::size_t>(n));
  const auto bound = static_cast<float>(o.q_max);
  for (std::int64_t first = 0; first < n; first += o.block) {
    const auto end = std::min(n, first + o.block);
    std::fill(later.begin(), later.end(), 0.0f);
    for (std::int64_t j = first; j < end; ++j) {
      const float* u = c.upper.data() + j * n;
      const float value = w[static_cast<std::size_t>(j)];
      const float rounded = std::clamp(std::nearbyint(value / scale), -bound, bound);
      q[c.order[static_cast<std::size_t>(j)]] = static_cast<std::int8_t>(rounded);
      const float error = (value - scale * rounded) / u[j];
      for (std::int64_t t = j; t < end; ++t) w[static_cast<std::size_t>(t)] -= error * u[t];
      for (std::int64_t t = end; t < n; ++t) later[static_cast<std::size_t>(t)] += error * u[t];
    }
    for (std::int64_t t = end; t < n; ++t)
      w[static_cast<std::size_t>(t)] -= later[static_cast<std::size_t>(t)];
  }
}

}  // namespace

QuantizedTensor quantize_gptq(std::string name, std::span<const float> values, tensor::Shape shape,
                              std::span<const float> hessian, const GptqOptions& options,
                              base::ThreadPool& pool) {
  base::check(shape.elements() == std::ssize(values) && !values.empty(), "quant: {} is {} over {} values",
              name, shape.str(), values.size());
  const auto n = shape.columns(), rows = shape.rows();
  if (std::ssize(hessian) != n * n)
    base::fail_input("{}: a Hessian of {} values for rows of {}", name, hessian.size(), n);
  const auto bad = std::ranges::find_if_not(values, [](float v) { return std::isfinite(v); });
  if (bad != values.end())
    base::fail_input("{}: row {} holds {}; cannot be quantised", name, (bad - values.begin()) / n, *bad);
  const Columns columns = prepare(name, hessian, n, options.damping);
  const Kind kind = options.q_max == 63 ? Kind::int7 : options.q_max == 31 ? Kind::int6 : Kind::int5;
  QuantizedTensor result{std::move(name), shape, kind, {}, {}, {}};
  result.q.resize(values.size());
  result.scales.resize(static_cast<std::size_t>(rows));
  pool.run(rows, [&](std::int64_t r) {
    const auto row = values.subspan(static_cast<std::size_t>(r * n), static_cast<std::size_t>(n));
    auto& scale = result.scales[static_cast<std::size_t>(r)];
    scale = row_scale(row, options);
    if (!std::isfinite(tensor::to_float(scale)))
      base::fail_input("{}: row {} is too wide for an fp16 scale", result.name, r);
    quantize_row(row, columns, tensor::to_float(scale), options, result.q.data() + r * n);
  });
  return result;
}

}  // namespace fairway::quant
