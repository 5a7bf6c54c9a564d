// Gradients through the norm alone and with a residual before it: a block owns a split of the rows, a warp
// takes every eighth of them and keeps the sums of the channels' gradients in registers; the warps' sums are
// added in order. The mix has a kernel of its own (mix_norm_backward.cu).
#include "cuda/norm_row.cuh"
#include "fairway/ops/norm.h"

namespace fairway::ops::cuda {
namespace {

struct NormBackward {
  RowSplits splits;
  std::int64_t columns = 0;
  float scale = 1;
  bool prescaled = false;
  const void* x = nullptr;  ///< what was normalised
  const float* r = nullptr;
  const void* branch = nullptr;
  const float* channel = nullptr;
  const void *direct = nullptr, *dy = nullptr;
  Output dx, d_branch, d_channel;
  float* partial = nullptr;
};

template <class T, int V>
__device__ Floats<V> load_or_zero(const void* p, std::int64_t i) {
  return p ? load<V>(static_cast<const T*>(p) + i) : filled<V>(0);
}

/// Gradient of one row at element i, by the factors of dy and x; writes what is wanted and gives the summand
/// of the channel's gradient.
template <class T, int V, bool residual>
__device__ Floats<V> put_gradients(const NormBackward& a, std::int64_t at, std::int64_t i, const Floats<V>& x,
                                   const Floats<V>& dy, const RowFactors& by) {
  Floats<V> g = load_or_zero<T, V>(a.direct, at + i);
#pragma unroll
  for (int k = 0; k < V; ++k) g.v[k] += dy.v[k] * by.dy - x.v[k] * by.x;
  Floats<V> summand = filled<V>(0);
  if constexpr (residual) {
    const auto times_g = [&](Floats<V> v) {
#pragma unroll
      for (int k = 0; k < V; ++k) v.v[k] *= g.v[k];
      return v;
    };
    if (a.d_channel.data) summand = times_g(load<V>(static_cast<const T*>(a.branch) + at + i));
    if (a.d_branch.data)
      Out<T>{static_cast<T*>(a.d_branch.data), a.d_branch.add}.put(at + i, times_g(load<V>(a.channel + i)));
  }
  Out<T>{static_cast<T*>(a.dx.data), a.dx.add}.put(at + i, g);
  return summand;
}

/// Rows in registers.
template <class T, int V, int chunks, bool residual>
__global__ void __launch_bounds__(block_threads) kernel(NormBackward a) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t begin = blockIdx.x * a.splits.each, end = min(begin + a.splits.each, a.splits.rows);
  Floats<V> sum[chunks];
  if constexpr (residual)
#pragma unroll
    for (int c = 0; c < chunks; ++c) sum[c] = filled<V>(0);
  for (std::int64_t row = begin + warp; row < end; row += block_warps) {
    const std::int64_t at = row * a.columns;
    Floats<V> x[chunks], dy[chunks];
    RowFactors by;
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const std::int64_t i = (c * 32 + lane) * V;
      x[c] = i < a.columns && a.dy ? load<V>(static_cast<const T*>(a.x) + at + i) : filled<V>(0);
      dy[c] = i < a.columns ? load_or_zero<T, V>(a.dy, at + i) : filled<V>(0);
    }
    if (a.dy) {
      float dot = 0;
#pragma unroll
      for (int c = 0; c < chunks; ++c)
#pragma unroll
        for (int k = 0; k < V; ++k) dot += x[c].v[k] * dy[c].v[k];
      by = row_factors(a.r[row], a.scale, a.prescaled, dot, a.columns);
    }
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const std::int64_t i = (c * 32 + lane) * V;
      if (i >= a.columns) continue;
      const Floats<V> summand = put_gradients<T, V, residual>(a, at, i, x[c], dy[c], by);
      if constexpr (residual) sum[c] += summand;
    }
  }
  if constexpr (residual) {
    if (!a.d_channel.data) return;
    __shared__ float shared[block_warps][32 * V * chunks];
#pragma unroll
    for (int c = 0; c < chunks; ++c)
#pragma unroll
      for (int k = 0; k < V; ++k) shared[warp][(c * 32 + lane) * V + k] = sum[c].v[k];
    __syncthreads();
    for (int j = threadIdx.x; j < a.columns; j += block_threads) {
      float total = 0;
#pragma unroll
      for (int w = 0; w < block_warps; ++w) total += shared[w][j];
      a.partial[blockIdx.x * a.columns + j] = total;
    }
  }
}

/// Rows of any length: one warp for a split, sums kept in the split's part of the workspace.
template <class T, bool residual>
__global__ void any_row_kernel(NormBackward a) {
  const std::int64_t begin = blockIdx.x * a.splits.each, end = min(begin + a.splits.each, a.splits.rows);
  float* partial = a.d_channel.data ? a.partial + blockIdx.x * a.columns : nullptr;
  for (std::int64_t j = threadIdx.x; partial && j < a.columns; j += 32) partial[j] = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t at = row * a.columns;
    const T *x = static_cast<const T*>(a.x) + at, *dy = static_cast<const T*>(a.dy) + at;
    RowFactors by;
    if (a.dy) {
      float dot = 0;
      for (std::int64_t i = threadIdx.x; i < a.columns; i += 32) dot += widen(x[i]) * widen(dy[i]);
      by = row_factors(a.r[row], a.scale, a.prescaled, dot, a.columns);
    }
    for (std::int64_t i = threadIdx.x; i < a.columns; i += 32) {
      const Floats<1> summand = put_gradients<T, 1, residual>(a, at, i, a.dy ? load<1>(x + i) : Floats<1>{},
                                                              a.dy ? load<1>(dy + i) : Floats<1>{}, by);
      if (partial) partial[i] += summand.v[0];
    }
  }
}

template <bool residual>
void run(const KernelArgs& a, NormBackward n) {
  if (!n.dx && !n.d_branch && !n.d_channel) return;
  n.splits = split_rows_on_device(a.in[0].shape().rows());
  n.columns = a.in[0].shape().columns();
  n.x = data(a, 0);
  n.r = floats(a, 1);
  n.partial = partials(a);
  with_row_shape(a, {n.x, n.branch, n.channel, n.direct, n.dy, n.dx.data, n.d_branch.data},
                 [&]<class T, int V, int C>(T, Constant<V>, Constant<C>) {
                   const auto blocks = static_cast<unsigned>(n.splits.count);
                   if constexpr (C > 0)
                     kernel<T, V, C, residual><<<blocks, block_threads, 0, target(a).stream>>>(n);
                   else
                     any_row_kernel<T, residual><<<blocks, 32, 0, target(a).stream>>>(n);
                 });
  sum_partials(target(a), n.partial, n.splits.count, n.columns, n.columns, nullptr, n.d_channel);
}

}  // namespace

void rms_norm_backward(const KernelArgs& a) {
  const auto& op = static_cast<const RmsNormBackward&>(a.op);
  NormBackward n;
  n.scale = op.scale;
  n.prescaled = op.prescaled;
  n.dy = data(a, 2);
  n.dx = output(a, 0);
  run<false>(a, n);
}

void residual_norm_backward(const KernelArgs& a) {
  NormBackward n;
  n.scale = static_cast<const ResidualNormBackward&>(a.op).scale;
  n.branch = data(a, 2);
  n.channel = floats(a, 3);
  n.direct = data(a, 4);
  n.dy = data(a, 5);
  n.dx = output(a, 0);
  n.d_branch = output(a, 1);
  n.d_channel = output(a, 2);
  run<true>(a, n);
}

}  // namespace fairway::ops::cuda
