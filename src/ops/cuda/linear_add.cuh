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
    const auto sum = [&](std::uint32_t r, const float* v, float& squares_of_row) {
      const std::uint32_t y = pack(low(r) + v[0], high(r) + v[1]);
      squares_of_row += low(y) * low(y) + high(y) * high(y);
      return y;
    };
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t tile = shared_address(s.rows[warp][half]);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        const std::uint32_t at = rows::matrices_at(tile, j);
        const float* const v = d + 32 * half + 4 * j;
        std::uint32_t r[4];
        load_matrices(at, r);
        const std::uint32_t y[4] = {sum(r[0], v, square[0]), sum(r[1], v + 2, square[1]),
                                    sum(r[2], v + 4, square[0]), sum(r[3], v + 6, square[1])};
        store_matrices(at, y[0], y[1], y[2], y[3]);
      }
    }
    fence_async();
    __syncwarp();
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
