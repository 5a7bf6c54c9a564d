#include "cholesky.h"

#include <cmath>

#include "tile_kernels.h"

namespace fairway::quant {
namespace {

using kernels::tile;
using Tile = std::vector<double>;  // [tile, tile]

Tile empty_tile() { return Tile(static_cast<std::size_t>(tile * tile)); }

/// The diagonal tile at `h`, column by column; the first bad pivot, or -1.
std::int64_t factor_tile(double* h, std::int64_t stride) {
  for (std::int64_t k = 0; k < tile; ++k) {
    const double pivot = h[k * stride + k];
    if (!(pivot > 0) || !std::isfinite(pivot)) return k;
    const double root = std::sqrt(pivot);
    double column[tile];
    for (std::int64_t i = k; i < tile; ++i) column[i] = h[i * stride + k] /= root;
    for (std::int64_t i = k + 1; i < tile; ++i)
      for (std::int64_t j = k + 1; j <= i; ++j) h[i * stride + j] -= column[i] * column[j];
  }
  return -1;
}

/// (L^-1)^T, dense, of the lower triangle at `l`.
Tile inverse_transposed(const double* l, std::int64_t stride) {
  Tile x = empty_tile();  // row i of L^-1 is made from the rows before; transposed in the end
  for (std::int64_t i = 0; i < tile; ++i) {
    double* row = x.data() + i * tile;
    for (std::int64_t k = 0; k < i; ++k)
      for (std::int64_t j = 0; j <= k; ++j)
        row[j] -= l[i * stride + k] * x[static_cast<std::size_t>(k * tile + j)];
    row[i] = 1;
    for (std::int64_t j = 0; j <= i; ++j) row[j] /= l[i * stride + i];
  }
  Tile result = empty_tile();
  for (std::int64_t i = 0; i < tile; ++i)
    for (std::int64_t j = 0; j <= i; ++j)
      result[static_cast<std::size_t>(j * tile + i)] = x[static_cast<std::size_t>(i * tile + j)];
  return result;
}

}  // namespace

TiledMatrix::TiledMatrix(std::int64_t n_)
    : n(n_), stride((n_ + tile - 1) / tile * tile), values(static_cast<std::size_t>(stride * stride)) {
  for (std::int64_t i = n; i < stride; ++i) row(i)[i] = 1;
}

std::int64_t cholesky(TiledMatrix& h, base::ThreadPool& pool) {
  const std::int64_t tiles = h.stride / tile, stride = h.stride;
  std::vector<Tile> across(static_cast<std::size_t>(tiles));  // tiles of the panel, transposed
  const auto at = [&](std::int64_t i, std::int64_t j) { return h.row(i * tile) + j * tile; };
  for (std::int64_t k = 0; k < tiles; ++k) {
    if (const auto bad = factor_tile(at(k, k), stride); bad >= 0) return k * tile + bad;
    const Tile inverse = inverse_transposed(at(k, k), stride);
    const std::int64_t rest = tiles - k - 1;
    pool.run(rest, [&](std::int64_t r) {  // the panel below it: H L^-T
      double* panel = at(k + 1 + r, k);
      Tile solved = empty_tile();
      kernels::multiply_tile(panel, stride, inverse.data(), 1, solved.data(), tile);
      auto& transposed = across[static_cast<std::size_t>(k + 1 + r)];
      transposed.resize(solved.size());
      for (std::int64_t i = 0; i < tile; ++i)
        for (std::int64_t j = 0; j < tile; ++j)
          transposed[static_cast<std::size_t>(j * tile + i)] = panel[i * stride + j] =
              solved[static_cast<std::size_t>(i * tile + j)];
    });
    pool.run(rest * (rest + 1) / 2, [&](std::int64_t index) {  // what is left: H - L L^T
      auto i = static_cast<std::int64_t>((std::sqrt(8.0 * static_cast<double>(index) + 1) - 1) / 2);
      while (i * (i + 1) / 2 > index) --i;
      while ((i + 1) * (i + 2) / 2 <= index) ++i;
      const std::int64_t j = index - i * (i + 1) / 2;
      kernels::multiply_tile(at(k + 1 + i, k), stride, across[static_cast<std::size_t>(k + 1 + j)].data(), -1,
                             at(k + 1 + i, k + 1 + j), stride);
    });
  }
  return -1;
}

}  // namespace fairway::quant
