#include "cuda/launch.cuh"
#include "fairway/ops/cast_rows.h"

namespace fairway::ops::cuda {
namespace {

/// One row of w: its quantiser's step (1 where there is none). The divisions of the reference, so the same
/// levels in fp32.
template <int V>
__device__ float row_step(const float* w, std::int64_t columns, float q) {
  if (q == 0) return 1;
  float greatest = 0;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    const Floats<V> v = load<V>(w + i);
#pragma unroll
    for (int k = 0; k < V; ++k) greatest = fmaxf(greatest, fabsf(v.v[k]));
  }
  return fmaxf(__fdiv_rn(lane_max(greatest), q), __fdiv_rn(1.0f, q));
}
__device__ inline float level(float w, float step, float q) {
  return q == 0 ? w : step * fminf(q, fmaxf(-q - 1, rintf(__fdiv_rn(w, step))));
}

/// y = scale clamp(round_half_even(w / s), -q - 1, q) s, one warp a row.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward(std::int64_t rows, std::int64_t columns, float q, const float* w, const float* scale, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  const float step = row_step<V>(w + at, columns, q), factor = scale ? scale[row] : 1.0f;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> v = load<V>(w + at + i);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      v.v[k] = level(v.v[k], step, q);
      if (scale) v.v[k] *= factor;
    }
    y.put(at + i, v);
  }
}

template <int V>
__global__ void __launch_bounds__(block_threads)
    backward(std::int64_t rows, std::int64_t columns, float q, const float* w, const float* scale,
             const float* dy, Out<float> dw, Out<float> dscale) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  const float step = row_step<V>(w + at, columns, q), factor = scale ? scale[row] : 1.0f;
  float dot = 0;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    const Floats<V> v = load<V>(w + at + i);
    Floats<V> d = load<V>(dy + at + i);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      dot = fmaf(d.v[k], level(v.v[k], step, q), dot);
      d.v[k] *= factor;
    }
    dw.put(at + i, d);
  }
  dot = lane_sum(dot);
  if (threadIdx.x % 32 == 0) dscale.put(row, dot);
}

}  // namespace

void cast_rows(const KernelArgs& a) {
  if (!a.out[0]) return;
  const Shape& w = a.in[0].shape();
  const auto q = static_cast<float>(static_cast<const CastRows&>(a.op).q);
  with_width(a, a.out[0], w.columns(), {data(a, 0), a.out[0].data}, [&]<class T, int V>(T, Constant<V>) {
    launch_rows(a, w.rows(), forward<T, V>, w.rows(), w.columns(), q, floats(a, 0), floats(a, 1),
                out<T>(a, 0));
  });
}

void cast_rows_backward(const KernelArgs& a) {
  const Shape& w = a.in[0].shape();
  const auto q = static_cast<float>(static_cast<const CastRowsBackward&>(a.op).q);
  with_width<float>(w.columns(), {data(a, 0), data(a, 2), a.out[0].data}, [&]<int V>(Constant<V>) {
    launch_rows(a, w.rows(), backward<V>, w.rows(), w.columns(), q, floats(a, 0), floats(a, 1), floats(a, 2),
                out<float>(a, 0), out<float>(a, 1));
  });
}

}  // namespace fairway::ops::cuda
