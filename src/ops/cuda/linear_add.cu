// LinearAdd (fairway/ops/matmul.h): gemm_rows.cuh with the residual, and the rows' sums of squares, as
// epilogue; the library's product where that does not fit.
#include "cuda/gemm_rows.cuh"
#include "cuda/launch.cuh"
#include "fairway/ops/cuda_gemm.h"
#include "fairway/ops/matmul.h"

namespace fairway::ops::cuda {
namespace {

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

/// y = residual + x w^T rounded to bf16, all bf16; residual and y may be the same memory; squares [rows of y,
/// n / 128] of what y holds, or null. fused_linear_fits must hold.
cudaError_t fused(const KernelArgs& a, float* squares) {
  const Shape &x = a.in[0].shape(), &y = a.out[0].shape();
  const int m = static_cast<int>(y.rows()), n = static_cast<int>(y.columns());
  Epilogue e{.squares = squares, .rows = m, .slices = n / rows::kColumns};
  cudaError_t error = make_tile_map(e.map_residual, data(a, 2), 1, m, n / 64, 16);
  if (error == cudaSuccess) error = make_tile_map(e.map_y, a.out[0].data, 1, m, n / 64, 16);
  if (error != cudaSuccess) return error;
  // Two warpgroups, eight steps of x in flight.
  return rows::launch<2, 8>(m, n, static_cast<int>(x.columns()), data(a, 0), data(a, 1), e, target(a).stream);
}

void add_by_library(const KernelArgs& a) {
  const Shape &x = a.in[0].shape(), &y = a.out[0].shape();
  BatchedGemm p;
  p.m = y.rows(), p.n = y.columns(), p.k = x.columns();
  p.transpose_b = true;
  p.operands = a.in[0].dtype(), p.result = a.out[0].dtype();
  p.beta = 1;
  multiply(*a.context.cuda, p, data(a, 0), data(a, 1), data(a, 2), a.out[0].data);
}

}  // namespace

void linear_add(const KernelArgs& a) {
  if (!a.out[0]) return;
  base::check(a.write[0] == Write::set, "linear_add: its result is not added to");
  if (a.out[0].elements() == 0) return;
  const bool squares = a.out.size() > 1 && a.out[1];
  if (fused_linear_fits(a.in[0].meta, a.out[0].meta) &&
      fits(0, 1, {data(a, 0), data(a, 1), data(a, 2), a.out[0].data}))
    return check_cuda(fused(a, squares ? a.out[1].as<float>() : nullptr), a.op.name());
  base::check(!squares, "linear_add: no kernel sums squares of rows of {}", a.out[0].shape().str());
  add_by_library(a);
}

}  // namespace fairway::ops::cuda
