#pragma once
// The product of linear_add.h: product_rows.cuh with the residual, and the rows' sums of squares, as
// epilogue.

#include "linear_add.h"
#include "product_rows.cuh"

namespace fairway::ops::cuda::linear_add {

struct Nothing {};

/// The tile of the residual becomes the tile of y in its place.
struct Epilogue {
  static constexpr bool weight_by_columns = false;
  CUtensorMap map_residual, map_y;
  float* squares;
  int rows, slices;

  template <class S>
  __device__ Nothing ahead(S& s, int slice, int row, int warp) const {
    if (threadIdx.x % 32 == 0) rows::load_rows(s, &map_residual, 2 * slice, row, warp);
    __syncwarp();
    return {};
  }
  template <class S>
  __device__ void finish(S& s, float (&d)[64], Nothing, int slice, int row, int warp,
                         std::uint32_t turn) const {
    using rows::high, rows::low;
    s.rows_full[warp].wait(turn);
    float square[2] = {0, 0};
    rows::rewrite_rows(s, warp, d, [&](std::uint32_t r, const float* v, int upper) {
      const std::uint32_t y = pack(low(r) + v[0], high(r) + v[1]);
      square[upper] += low(y) * low(y) + high(y) * high(y);
      return y;
    });
    if (threadIdx.x % 32 == 0) {
      for (int half = 0; half < 2; ++half) store_tile(&map_y, s.rows[warp][half], 2 * slice + half, row, 0);
      bulk_commit();
    }
    if (squares) put_squares(square, slice, row);
  }

  /// A row's 128 columns lie in four lanes.
  __device__ void put_squares(float (&square)[2], int slice, int row) const {
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      square[upper] += __shfl_xor_sync(0xFFFFFFFF, square[upper], 1);
      square[upper] += __shfl_xor_sync(0xFFFFFFFF, square[upper], 2);
      const int at = row + 8 * upper + static_cast<int>(threadIdx.x) % 32 / 4;
      if (threadIdx.x % 4 == 0 && at < this->rows)
        squares[static_cast<std::int64_t>(at) * slices + slice] = square[upper];
    }
  }
};

/// linear_add_fused by Groups warpgroups, Stages steps of `x` in flight.
template <int Groups, int Stages>
cudaError_t run(const LinearAddShape& shape, const void* x, const void* w, const void* residual, void* y,
                float* squares, cudaStream_t stream) {
  if (shape.m == 0) return cudaSuccess;
  Epilogue e{.squares = squares, .rows = shape.m, .slices = shape.n / rows::kColumns};
  cudaError_t error = make_tile_map(e.map_residual, residual, 1, shape.m, shape.n / 64, 16);
  if (error == cudaSuccess) error = make_tile_map(e.map_y, y, 1, shape.m, shape.n / 64, 16);
  if (error != cudaSuccess) return error;
  return rows::launch<Groups, Stages>(shape.m, shape.n, shape.k, x, w, e, stream);
}

}  // namespace fairway::ops::cuda::linear_add
