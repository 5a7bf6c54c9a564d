// RMSNorm and what stands before it: one warp for each row, one pass over memory.
#include "cuda/device.cuh"
#include "cuda/norm_row.cuh"

namespace fairway::ops::cuda {
namespace {

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

template <NormKind kind>
void launch(const Target& t, Storage storage, const NormForward& a) {
  const bool aligned = fits(0, 1, {a.x, a.other, a.channel, a.skip, a.skip_channel, a.m.data, a.y.data});
  with_row_shape(storage, a.columns, aligned, [&](auto zero, auto width, auto chunks) {
    kernel<decltype(zero), decltype(width)::value, decltype(chunks)::value, kind>
        <<<blocks_for(a.rows, block_warps), block_threads, 0, t.stream>>>(a);
  });
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

}  // namespace

void norm_from_squares(const Target& t, std::int64_t rows, std::int64_t columns, std::int64_t parts,
                       float eps, const float* squares, Output r) {
  if (!r || rows == 0) return;
  from_squares<<<blocks_for(rows, block_threads), block_threads, 0, t.stream>>>(rows, columns, parts, eps,
                                                                                squares, out<float>(r));
}

void norm_forward(const Target& t, Storage storage, NormKind kind, const NormForward& a) {
  if (a.rows == 0) return;
  switch (kind) {
    case NormKind::plain:
      return launch<NormKind::plain>(t, storage, a);
    case NormKind::mix:
      return launch<NormKind::mix>(t, storage, a);
    case NormKind::mix_skip:
      return launch<NormKind::mix_skip>(t, storage, a);
    case NormKind::residual:
      return launch<NormKind::residual>(t, storage, a);
  }
}

}  // namespace fairway::ops::cuda
