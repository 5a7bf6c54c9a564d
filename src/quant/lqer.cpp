#include "fairway/quant/lqer.h"

#include <algorithm>
#include <cmath>

#include "eigen.h"
#include "fairway/base/error.h"
#include "grid_row.h"
#include "tile_kernels.h"

namespace fairway::quant {
namespace {

using kernels::tile;

std::vector<float> transposed(std::span<const float> m, std::int64_t columns) {
  const std::int64_t rows = std::ssize(m) / columns;
  std::vector<float> result(m.size());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      result[static_cast<std::size_t>(c * rows + r)] = m[static_cast<std::size_t>(r * columns + c)];
  return result;
}

/// The tile of M at (row, column) as doubles, or its transpose; zeros beyond M.
void take_tile(std::span<const float> m, std::int64_t columns, std::int64_t row, std::int64_t column,
               bool transpose, double* out) {
  const std::int64_t rows = std::ssize(m) / columns;
  std::fill_n(out, tile * tile, 0.0);
  for (std::int64_t r = 0; r < std::min(tile, rows - row); ++r)
    for (std::int64_t c = 0; c < std::min(tile, columns - column); ++c)
      out[transpose ? c * tile + r : r * tile + c] =
          m[static_cast<std::size_t>((row + r) * columns + column + c)];
}

/// M^T M, [columns, columns]; sums over rows in ascending tiles.
std::vector<double> gram(std::span<const float> m, std::int64_t columns, base::ThreadPool& pool) {
  const std::int64_t rows = std::ssize(m) / columns, tiles = (columns + tile - 1) / tile;
  std::vector<double> result(static_cast<std::size_t>(columns * columns));
  pool.run(tiles * tiles, [&](std::int64_t index) {
    const std::int64_t i = index / tiles * tile, j = index % tiles * tile;
    if (j > i) return;
    std::vector<double> a(tile * tile), b(tile * tile), sum(tile * tile);
    for (std::int64_t row = 0; row < rows; row += tile) {
      take_tile(m, columns, row, i, true, a.data());
      take_tile(m, columns, row, j, false, b.data());
      kernels::multiply_tile(a.data(), tile, b.data(), 1, sum.data(), tile);
    }
    for (std::int64_t r = 0; r < std::min(tile, columns - i); ++r)
      for (std::int64_t c = 0; c < std::min(tile, columns - j); ++c)
        result[static_cast<std::size_t>((i + r) * columns + j + c)] =
            result[static_cast<std::size_t>((j + c) * columns + i + r)] =
                sum[static_cast<std::size_t>(r * tile + c)];
  });
  return result;
}

/// fp16(largest magnitude / steps), never zero.
tensor::f16 scale_of(std::span<const float> values, float steps) {
  float largest = 0;
  for (const float v : values) largest = std::max(largest, std::fabs(v));
  const auto scale = tensor::to_f16(largest / steps);
  if (!std::isfinite(tensor::to_float(scale)))
    base::fail_input("a correction of {} is too large for an fp16 scale", largest);
  return tensor::to_float(scale) > 0 ? scale : tensor::f16{1};
}

std::int8_t code(float value, tensor::f16 scale, float low, float high) {
  return static_cast<std::int8_t>(std::clamp(std::nearbyint(value / tensor::to_float(scale)), low, high));
}

/// Singular vectors have free signs: the first largest magnitude of each row of B becomes positive.
void fix_signs(Factorisation& f, std::int64_t rank) {
  const auto k = static_cast<std::size_t>(rank), columns = f.b.size() / k;
  for (std::size_t i = 0; i < k; ++i) {
    const auto row = std::span(f.b).subspan(i * columns, columns);
    const auto most = std::ranges::max_element(row, {}, [](float v) { return std::fabs(v); });
    if (*most >= 0) continue;
    for (float& v : row) v = -v;
    for (std::size_t r = i; r < f.a.size(); r += k) f.a[r] = -f.a[r];
  }
}

}  // namespace

Factorisation low_rank(std::span<const float> e, std::int64_t columns, std::int64_t rank,
                       base::ThreadPool& pool) {
  const std::int64_t rows = std::ssize(e) / columns;
  base::check(rank >= 1 && rank <= std::min(rows, columns), "low_rank: {} of [{}, {}]", rank, rows, columns);
  // From the smaller side: eigenvectors v of M^T M, singular value |M v|, the other side's vectors M v.
  const bool wide = columns > rows;
  const auto turned = wide ? transposed(e, columns) : std::vector<float>();
  const std::span<const float> m = wide ? turned : e;
  const std::int64_t side = wide ? rows : columns, other = wide ? columns : rows;
  const auto eigen = eigen_symmetric(gram(m, side, pool), side);
  Factorisation f{std::vector<float>(static_cast<std::size_t>(rows * rank)),
                  std::vector<float>(static_cast<std::size_t>(rank * columns))};
  std::vector<double> image(static_cast<std::size_t>(other));
  for (std::int64_t k = 0; k < rank; ++k) {
    const double* v = eigen.vectors.data() + k * side;
    pool.run(other, [&](std::int64_t r) {
      double sum = 0;
      for (std::int64_t c = 0; c < side; ++c) sum += double{m[static_cast<std::size_t>(r * side + c)]} * v[c];
      image[static_cast<std::size_t>(r)] = sum;
    });
    double length = 0;
    for (const double x : image) length += x * x;
    length = std::sqrt(length);
    const auto a = [&](std::int64_t r) -> float& { return f.a[static_cast<std::size_t>(r * rank + k)]; };
    float* b = f.b.data() + k * columns;
    for (std::int64_t r = 0; r < rows; ++r)
      a(r) = static_cast<float>(wide ? v[r] * length : image[static_cast<std::size_t>(r)]);
    for (std::int64_t c = 0; c < columns; ++c) {
      const double unit = length > 0 && wide ? image[static_cast<std::size_t>(c)] / length : 0;
      b[c] = static_cast<float>(wide ? unit : v[c]);
    }
  }
  fix_signs(f, rank);
  return f;
}

LowRank pack_low_rank(const Factorisation& f, std::int64_t rank, std::int64_t group) {
  LowRank l{rank, group, {}, {}, scale_of(f.a, 1.5f), {}};
  for (const float v : f.a) l.a.push_back(code(v, l.a_scale, -2, 1));
  for (std::size_t first = 0; first < f.b.size(); first += static_cast<std::size_t>(group)) {
    const auto part =
        std::span(f.b).subspan(first, std::min(static_cast<std::size_t>(group), f.b.size() - first));
    l.b_scales.push_back(scale_of(part, 7.5f));
    for (const float v : part) l.b.push_back(code(v, l.b_scales.back(), -8, 7));
  }
  return l;
}

double squared_residual(std::span<const float> values, const QuantizedTensor& stored, base::ThreadPool& pool,
                        std::vector<float>* residual) {
  const std::int64_t columns = stored.shape.columns(), rows = std::ssize(values) / columns;
  std::vector<double> sums(static_cast<std::size_t>(rows));
  if (residual) residual->resize(values.size());
  pool.run(rows, [&](std::int64_t r) {
    std::vector<float> row(static_cast<std::size_t>(columns));
    grid_row(stored, r, row.data());
    for (std::int64_t j = 0; j < columns; ++j) {
      const auto at = static_cast<std::size_t>(r * columns + j);
      const float lost = values[at] - row[static_cast<std::size_t>(j)];
      sums[static_cast<std::size_t>(r)] += double{lost} * lost;
      if (residual) (*residual)[at] = lost;
    }
  });
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

}  // namespace fairway::quant
