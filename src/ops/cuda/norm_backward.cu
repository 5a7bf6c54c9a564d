// Gradients through the three norms: a block owns a piece of the rows, a warp takes every eighth of them and
// keeps the sums of the channels' gradients in registers; the warps' sums are added in order.
#include "cuda/device.cuh"
#include "cuda/norm_row.cuh"

namespace fairway::ops::cuda {
namespace {

template <NormKind kind>
inline constexpr int sums_of = kind == NormKind::plain ? 0
                               : kind == NormKind::mix ? 2
                                                       : 1;

template <class T, int V>
__device__ Floats<V> load_or_zero(const void* p, std::int64_t i) {
  return p ? load<V>(static_cast<const T*>(p) + i) : filled<V>(0);
}

/// Gradient of one row at element i, by the factors of dy and x; writes what is wanted and gives the
/// summands.
template <class T, int V, NormKind kind>
__device__ void put_gradients(const NormBackward& a, std::int64_t at, std::int64_t i, const Floats<V>& x,
                              const Floats<V>& dy, float by_dy, float by_x, Floats<V>* summands) {
  Floats<V> g = load_or_zero<T, V>(a.direct, at + i);
#pragma unroll
  for (int k = 0; k < V; ++k) g.v[k] += dy.v[k] * by_dy - x.v[k] * by_x;
  const bool sums = a.d_channel.data != nullptr;
  const Out<T> first{static_cast<T*>(a.d_first.data), a.d_first.add};
  const Out<T> second{static_cast<T*>(a.d_second.data), a.d_second.add};
  if constexpr (kind == NormKind::plain) {
    first.put(at + i, g);
    return;
  }
  const auto times_g = [&](Floats<V> v) {
#pragma unroll
    for (int k = 0; k < V; ++k) v.v[k] *= g.v[k];
    return v;
  };
  if (sums) {
    summands[0] = times_g(load<V>(static_cast<const T*>(a.first) + at + i));
    if constexpr (kind == NormKind::mix)
      summands[1] = times_g(load<V>(static_cast<const T*>(a.second) + at + i));
  }
  if constexpr (kind == NormKind::mix) {
    if (first) first.put(at + i, times_g(load<V>(a.channel + i)));
    if (second) second.put(at + i, times_g(load<V>(a.channel + a.columns + i)));
  } else {
    first.put(at + i, g);
    if (second) second.put(at + i, times_g(load<V>(a.channel + i)));
  }
}

/// Factors of dy and x for a row: dx = scale r (dy - x (x . dy) r^2 / D).
__device__ inline void row_factors(const NormBackward& a, std::int64_t row, float dot, float* by_dy,
                                   float* by_x) {
  const float r = a.r[row], sum = lane_sum(dot);
  *by_dy = a.scale * r;
  *by_x = a.scale * r * (sum * r * r / static_cast<float>(a.columns));
}

/// Rows in registers.
template <class T, int V, int chunks, NormKind kind>
__global__ void __launch_bounds__(block_threads) kernel(NormBackward a) {
  constexpr int count = sums_of<kind>, held = count > 0 ? count : 1;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t begin = blockIdx.x * a.pieces.each, end = min(begin + a.pieces.each, a.pieces.rows);
  Floats<V> sums[held][chunks];
  if constexpr (count > 0)
    for (int s = 0; s < count; ++s)
#pragma unroll
      for (int c = 0; c < chunks; ++c) sums[s][c] = filled<V>(0);
  for (std::int64_t row = begin + warp; row < end; row += block_warps) {
    const std::int64_t at = row * a.columns;
    Floats<V> x[chunks], dy[chunks];
    float by_dy = 0, by_x = 0;
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
      row_factors(a, row, dot, &by_dy, &by_x);
    }
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const std::int64_t i = (c * 32 + lane) * V;
      if (i >= a.columns) continue;
      Floats<V> summands[held];
#pragma unroll
      for (int s = 0; s < held; ++s) summands[s] = filled<V>(0);
      put_gradients<T, V, kind>(a, at, i, x[c], dy[c], by_dy, by_x, summands);
      if constexpr (count > 0)
#pragma unroll
        for (int s = 0; s < count; ++s)
#pragma unroll
          for (int k = 0; k < V; ++k) sums[s][c].v[k] += summands[s].v[k];
    }
  }
  if constexpr (count > 0) {
    if (!a.d_channel.data) return;
    __shared__ float shared[block_warps][32 * V * chunks];
#pragma unroll
    for (int s = 0; s < count; ++s) {
#pragma unroll
      for (int c = 0; c < chunks; ++c)
#pragma unroll
        for (int k = 0; k < V; ++k) shared[warp][(c * 32 + lane) * V + k] = sums[s][c].v[k];
      __syncthreads();
      for (int j = threadIdx.x; j < a.columns; j += block_threads) {
        float total = 0;
#pragma unroll
        for (int w = 0; w < block_warps; ++w) total += shared[w][j];
        a.partial[(blockIdx.x * count + s) * a.columns + j] = total;
      }
      __syncthreads();
    }
  }
}

/// Rows of any length: one warp for a piece, sums kept in the piece's part of the workspace.
template <class T, NormKind kind>
__global__ void any_row_kernel(NormBackward a) {
  constexpr int count = sums_of<kind>, held = count > 0 ? count : 1;
  const std::int64_t begin = blockIdx.x * a.pieces.each, end = min(begin + a.pieces.each, a.pieces.rows);
  float* partial = a.d_channel.data ? a.partial + blockIdx.x * count * a.columns : nullptr;
  for (std::int64_t j = threadIdx.x; partial && j < a.columns; j += 32)
    for (int s = 0; s < count; ++s) partial[s * a.columns + j] = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t at = row * a.columns;
    const T *x = static_cast<const T*>(a.x) + at, *dy = static_cast<const T*>(a.dy) + at;
    float by_dy = 0, by_x = 0, dot = 0;
    if (a.dy) {
      for (std::int64_t i = threadIdx.x; i < a.columns; i += 32) dot += widen(x[i]) * widen(dy[i]);
      row_factors(a, row, dot, &by_dy, &by_x);
    }
    for (std::int64_t i = threadIdx.x; i < a.columns; i += 32) {
      Floats<1> summands[held] = {};
      put_gradients<T, 1, kind>(a, at, i, a.dy ? load<1>(x + i) : Floats<1>{},
                                a.dy ? load<1>(dy + i) : Floats<1>{}, by_dy, by_x, summands);
      if (partial)
        for (int s = 0; s < count; ++s) partial[s * a.columns + i] += summands[s].v[0];
    }
  }
}

template <NormKind kind>
void launch(const Target& t, Storage storage, const NormBackward& a) {
  const bool aligned =
      fits(0, 1, {a.x, a.first, a.second, a.channel, a.direct, a.dy, a.d_first.data, a.d_second.data});
  with_row_shape(storage, a.columns, aligned, [&](auto zero, auto width, auto chunks) {
    using T = decltype(zero);
    constexpr int v = decltype(width)::value, c = decltype(chunks)::value;
    const auto blocks = static_cast<unsigned>(a.pieces.count);
    if constexpr (c > 0)
      kernel<T, v, c, kind><<<blocks, block_threads, 0, t.stream>>>(a);
    else
      any_row_kernel<T, kind><<<blocks, 32, 0, t.stream>>>(a);
  });
  constexpr int count = sums_of<kind>;
  if (count > 0)
    sum_partials(t, a.partial, a.pieces.count, count * a.columns, count * a.columns, nullptr, a.d_channel);
}

}  // namespace

void norm_backward(const Target& t, Storage storage, NormKind kind, const NormBackward& a) {
  if (!a.d_first && !a.d_second && !a.d_channel) return;
  switch (kind) {
    case NormKind::plain:
      return launch<NormKind::plain>(t, storage, a);
    case NormKind::mix:
      return launch<NormKind::mix>(t, storage, a);
    case NormKind::residual:
      return launch<NormKind::residual>(t, storage, a);
  }
}

}  // namespace fairway::ops::cuda
