// RMSNorm and what stands before it: one warp for each row, one pass over memory.
#include "cuda/norm_row.cuh"
#include "fairway/ops/norm.h"

namespace fairway::ops::cuda {
namespace {

enum class NormKind : std::uint8_t { plain, mix, mix_skip, residual };
struct NormForward {
  std::int64_t rows = 0, columns = 0;
  float scale = 1, eps = 0;
  const void *x = nullptr, *other = nullptr;  ///< x | u, x0 | x, branch
  const float* channel = nullptr;             ///< null | mix [2, D] | s [D]
  const void* skip = nullptr;                 ///< s and k of a mix with a skip connection
  const float* skip_channel = nullptr;
  Output m, y, r;  ///< m and y may be unwanted
};

/// Row elements i to i + V - 1 before the norm: x, x + s . branch or a . (u + k . s) + b . x0.
template <class T, int V, NormKind kind>
__device__ Floats<V> before_norm(const NormForward& a, std::int64_t at, std::int64_t i) {
  Floats<V> m = load<V>(static_cast<const T*>(a.x) + at + i);
  if constexpr (kind == NormKind::plain) return m;
  const Floats<V> other = load<V>(static_cast<const T*>(a.other) + at + i), c = load<V>(a.channel + i);
  if constexpr (kind == NormKind::residual) return with_skip(m, other, c);
  if constexpr (kind == NormKind::mix_skip)
    m = with_skip(m, load<V>(static_cast<const T*>(a.skip) + at + i), load<V>(a.skip_channel + i));
  return mixed(m, other, c, load<V>(a.channel + a.columns + i));
}

template <class T, int V, int chunks, NormKind kind>
__global__ void __launch_bounds__(block_threads) kernel(NormForward a) {
  // From the last row on: what the product before wrote last is still in the L2 cache.
  const std::int64_t row = a.rows - 1 - warp_row(), at = row * a.columns;
  if (row < 0) return;
  const int lane = threadIdx.x % 32;
  Floats<V> kept[chunks > 0 ? chunks : 1];
  float squares = 0;
  const auto square = [&](const Floats<V>& m) {
#pragma unroll
    for (int k = 0; k < V; ++k) squares += m.v[k] * m.v[k];
  };
  if constexpr (chunks > 0) {
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const std::int64_t i = (c * 32 + lane) * V;
      kept[c] = i < a.columns ? before_norm<T, V, kind>(a, at, i) : filled<V>(0);
    }
#pragma unroll
    for (int c = 0; c < chunks; ++c) square(kept[c]);
  } else {
    for (std::int64_t i = lane * V; i < a.columns; i += 32 * V) square(before_norm<T, V, kind>(a, at, i));
  }
  const float r = 1.0f / sqrtf(lane_sum(squares) / static_cast<float>(a.columns) + a.eps),
              factor = a.scale * r;
  const Out<T> m_out{static_cast<T*>(a.m.data), a.m.add}, y_out{static_cast<T*>(a.y.data), a.y.add};
  const auto put = [&](std::int64_t i, Floats<V> m) {
    m_out.put(at + i, m);
#pragma unroll
    for (int k = 0; k < V; ++k) m.v[k] *= factor;
    y_out.put(at + i, m);
  };
  if constexpr (chunks > 0) {
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const std::int64_t i = (c * 32 + lane) * V;
      if (i < a.columns) put(i, kept[c]);
    }
  } else {
    for (std::int64_t i = lane * V; i < a.columns; i += 32 * V) put(i, before_norm<T, V, kind>(a, at, i));
  }
  if (lane == 0) Out<float>{static_cast<float*>(a.r.data), a.r.add}.put(row, r);
}

__global__ void __launch_bounds__(block_threads)
    from_squares(std::int64_t rows, std::int64_t columns, std::int64_t parts, float eps, const float* squares,
                 Out<float> r) {
  const std::int64_t row = std::int64_t{blockIdx.x} * block_threads + threadIdx.x;
  if (row >= rows) return;
  float sum = 0;
  for (std::int64_t p = 0; p < parts; ++p) sum += squares[row * parts + p];
  r.put(row, 1.0f / sqrtf(sum / static_cast<float>(columns) + eps));
}

template <NormKind kind, class Op>
void run(const KernelArgs& a) {
  constexpr bool mixes = kind != NormKind::plain;
  const auto& op = static_cast<const Op&>(a.op);
  NormForward n;
  n.rows = a.in[0].shape().rows();
  n.columns = a.in[0].shape().columns();
  n.scale = op.scale;
  n.eps = op.eps;
  n.x = data(a, 0);
  if constexpr (mixes) {
    n.other = data(a, 1);
    n.channel = floats(a, 2);
    n.skip = data(a, 3);
    n.skip_channel = floats(a, 4);
    n.m = output(a, 0);
  }
  n.y = output(a, mixes ? 1 : 0);
  n.r = output(a, mixes ? 2 : 1);
  with_row_shape(a, {n.x, n.other, n.channel, n.skip, n.skip_channel, n.m.data, n.y.data},
                 [&]<class T, int V, int C>(T, Constant<V>, Constant<C>) {
                   launch_rows(a, n.rows, kernel<T, V, C, kind>, n);
                 });
}

}  // namespace

void rms_norm(const KernelArgs& a) {
  const float* squares = floats(a, 1);
  if (!squares || a.out[0]) return run<NormKind::plain, RmsNorm>(a);
  const Shape& x = a.in[0].shape();
  if (a.out[1])
    launch_elements(a, x.rows(), from_squares, x.rows(), x.columns(), view(a, 1).shape().columns(),
                    static_cast<const RmsNorm&>(a.op).eps, squares, out<float>(a, 1));
}
void mix_norm(const KernelArgs& a) {
  if (static_cast<const MixNorm&>(a.op).skip)
    run<NormKind::mix_skip, MixNorm>(a);
  else
    run<NormKind::mix, MixNorm>(a);
}
void residual_norm(const KernelArgs& a) { run<NormKind::residual, ResidualNorm>(a); }

}  // namespace fairway::ops::cuda
