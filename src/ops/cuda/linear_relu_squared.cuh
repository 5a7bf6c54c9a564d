#pragma once
// The products around the squared leaky ReLU (fairway/ops/linear_relu_squared.h): gemm_rows.cuh with the
// activation, or its derivative, as epilogue.

#include "gemm_rows.cuh"

namespace fairway::ops::cuda::square {

/// Rows, columns and summed dimension of the product. fused_linear_fits(n, k) must hold
/// (fairway/ops/matmul.h).
struct SquareShape {
  int m = 0, n = 0, k = 0;
  float slope = 0;
  const float* r = nullptr;  ///< [m]: row i of the result is times row_scale r[i]; null: not
  float row_scale = 1;
  bool from_act = false;  ///< backward, slope 0: `h` is act instead
};

using rows::high;
using rows::low;

__device__ inline float square(float h, float slope) {
  const float z = h > 0 ? h : slope * h;
  return z * z;
}
__device__ inline float root(float act) {
  float h;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(h) : "f"(act));
  return h;
}

/// Sums times their row's factor, rounded, then the activation of what was rounded: act is a function of the
/// h that backward sees.
struct Forward {
  static constexpr bool weight_by_columns = false;
  CUtensorMap map_h, map_act;
  float slope;
  bool store_h, store_act;
  rows::RowFactors factors;

  template <class S>
  __device__ rows::RowFactors::Two ahead(S&, int, int row, int) const {
    return factors.ahead(row);
  }
  template <class S>
  __device__ void finish(S& s, float (&d)[64], const rows::RowFactors::Two& two, int slice, int row, int warp,
                         std::uint32_t) const {
    factors.multiply(d, two);
    const bool leader = threadIdx.x % 32 == 0;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const int half = part % 2;
      const bool activated = part >= 2;
      if (!(activated ? store_act : store_h)) continue;
      // All stores but the last have left shared memory: also the one from this half.
      if (leader) bulk_wait_read_but<1>();
      __syncwarp();
      const auto words = [&](int i) {
        const std::uint32_t h = pack(d[32 * half + i], d[32 * half + i + 1]);
        return activated ? pack(square(low(h), slope), square(high(h), slope)) : h;
      };
      const std::uint32_t to = shared_address(s.rows[warp][half]);
#pragma unroll
      for (int j = 0; j < 8; j += 2)
        store_matrices(rows::matrices_at(to, j), words(4 * j), words(4 * j + 2), words(4 * j + 4),
                       words(4 * j + 6));
      fence_async();
      __syncwarp();
      if (leader) {
        store_tile(activated ? &map_act : &map_h, s.rows[warp][half], 2 * slice + half, row, 0);
        bulk_commit();
      }
    }
  }
};

/// The tile of h becomes the tile of dh in its place.
template <bool FromAct>
struct Backward {
  static constexpr bool weight_by_columns = true;
  CUtensorMap map_h, map_dh;
  float slope;
  bool add;
  rows::RowFactors factors;

  template <class S>
  __device__ rows::RowFactors::Two ahead(S& s, int slice, int row, int warp) const {
    if (threadIdx.x % 32 == 0) rows::load_rows(s, &map_h, 2 * slice, row, warp);
    __syncwarp();
    return factors.ahead(row);
  }
  template <class S>
  __device__ void finish(S& s, float (&d)[64], const rows::RowFactors::Two& two, int slice, int row, int warp,
                         std::uint32_t turn) const {
    s.rows_full[warp].wait(turn);
    // The row's factor costs nothing as part of the slopes.
    const float above[2] = {2 * factors.of(two, 0), 2 * factors.of(two, 1)};
    const float below[2] = {slope * slope * above[0], slope * slope * above[1]};
    const auto slope_at = [&](float h, int upper) {
      return FromAct ? above[upper] * root(h) : (h > 0 ? above[upper] : below[upper]) * h;
    };
    const auto times_slope = [&](std::uint32_t h, const float* v, int upper) {
      return pack(slope_at(low(h), upper) * v[0], slope_at(high(h), upper) * v[1]);
    };
    rows::rewrite_rows(s, warp, d, times_slope);
    if (threadIdx.x % 32 != 0) return;
    for (int half = 0; half < 2; ++half) {
      if (add)
        add_tile(&map_dh, s.rows[warp][half], 2 * slice + half, row, 0);
      else
        store_tile(&map_dh, s.rows[warp][half], 2 * slice + half, row, 0);
    }
    bulk_commit();
  }
};

/// act = f(h), h = y w^T (row factors included) rounded to bf16; y [m, k], w [n, k], h and act [m, n], all
/// bf16 and aligned to 16 bytes. `h` or `act` may be null. Groups warpgroups, Stages steps of `y` in flight.
template <int Groups, int Stages>
cudaError_t forward(const SquareShape& shape, const void* y, const void* w, void* h, void* act,
                    cudaStream_t stream) {
  if (shape.m == 0) return cudaSuccess;
  Forward e{.slope = shape.slope,
            .store_h = h != nullptr,
            .store_act = act != nullptr,
            .factors = {shape.r, shape.m, shape.row_scale}};
  // A map needs an address, also when nothing is stored there.
  cudaError_t error = make_tile_map(e.map_h, h ? h : act, 1, shape.m, shape.n / 64, 16);
  if (error == cudaSuccess) error = make_tile_map(e.map_act, act ? act : h, 1, shape.m, shape.n / 64, 16);
  if (error != cudaSuccess) return error;
  return rows::launch<Groups, Stages>(shape.m, shape.n, shape.k, y, w, e, stream);
}
template <int Groups, int Stages, bool FromAct>
cudaError_t backward_from(const SquareShape& shape, const void* du, const void* w, const void* h, void* dh,
                          bool add, cudaStream_t stream) {
  Backward<FromAct> e{.slope = shape.slope, .add = add, .factors = {shape.r, shape.m, shape.row_scale}};
  cudaError_t error = make_tile_map(e.map_h, h, 1, shape.m, shape.n / 64, 16);
  if (error == cudaSuccess) error = make_tile_map(e.map_dh, dh, 1, shape.m, shape.n / 64, 16);
  if (error != cudaSuccess) return error;
  return rows::launch<Groups, Stages>(shape.m, shape.n, shape.k, du, w, e, stream);
}
/// dh (+)= (du w) f'(h), row factors included; du [m, k], w [k, n], h and dh [m, n], which may be the same
/// memory unless added to.
template <int Groups, int Stages>
cudaError_t backward(const SquareShape& shape, const void* du, const void* w, const void* h, void* dh,
                     bool add, cudaStream_t stream) {
  if (shape.m == 0) return cudaSuccess;
  const auto run =
      shape.from_act ? backward_from<Groups, Stages, true> : backward_from<Groups, Stages, false>;
  return run(shape, du, w, h, dh, add, stream);
}

}  // namespace fairway::ops::cuda::square
