#include "cuda/qkv.cuh"

namespace fairway::ops::cuda {
namespace {

/// One head of one position: dx = gain r (u - x (x . u) r^2 / dh) with u = rope^T(dy); gives (x . u) r.
template <class T, int V>
__device__ float head_gradient(const T* x, const T* dy, const float* rope, const Qkv& a, float r, float gain,
                               int lane, int lanes, bool active, const Out<T>& dx, std::int64_t at) {
  float dot = 0;
  for (int i = lane * V; i < a.head_dim; i += lanes * V) {
    const Floats<V> u = turned<T, V>(dy, rope, i, a.rope_dims, -1.0f), raw = load<V>(x + i);
#pragma unroll
    for (int j = 0; j < V; ++j) dot += u.v[j] * raw.v[j];
  }
  dot = lane_sum(dot, lanes);
  if (!active) return 0;
  if (dx) {
    const float by_u = gain * r, by_x = gain * r * (dot * r * r / static_cast<float>(a.head_dim));
    for (int i = lane * V; i < a.head_dim; i += lanes * V) {
      Floats<V> u = turned<T, V>(dy, rope, i, a.rope_dims, -1.0f);
      const Floats<V> raw = load<V>(x + i);
#pragma unroll
      for (int j = 0; j < V; ++j) u.v[j] = by_u * u.v[j] - by_x * raw.v[j];
      dx.put(at + i, u);
    }
  }
  return lane == 0 ? dot * r : 0.0f;
}

template <class T, int V>
__device__ float value_gradient(const Qkv& a, const Slot& s, const QkvGradients& g, std::int64_t row,
                                int lane, int lanes, bool wants_sum, const Out<T>& dx, std::int64_t at) {
  const float scale = a.ve ? *a.w * *a.vs : 0.0f;
  const Out<T> dve{static_cast<T*>(g.dve.data), g.dve.add};
  const std::int64_t from = s.out_at(row);
  float dot = 0;
  for (int i = lane * V; i < a.head_dim; i += lanes * V) {
    Floats<V> d = g.dv ? load<V>(static_cast<const T*>(g.dv) + from + i) : filled<V>(0);
    dx.put(at + i, d);
    if (wants_sum) {
      const Floats<V> e = load<V>(static_cast<const T*>(a.ve) + from + i);
#pragma unroll
      for (int j = 0; j < V; ++j) dot += d.v[j] * e.v[j];
    }
#pragma unroll
    for (int j = 0; j < V; ++j) d.v[j] *= scale;
    dve.put(from + i, d);
  }
  return dot;
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads) backward(Qkv a, QkvGradients g, int lanes, Fault* fault) {
  const Slot s(a, blockIdx.x);
  const int lane = threadIdx.x % lanes, groups = block_threads / lanes, dh = a.head_dim;
  const std::int64_t begin = blockIdx.y * g.pieces.each, end = min(begin + g.pieces.each, g.pieces.rows);
  const Out<T> dx{static_cast<T*>(g.dqkv.data), g.dqkv.add};
  const bool wants_values = a.ve && (g.dvs.data || g.dw.data);
  const float gain = s.is_query() ? a.gain[s.slot] : 1.0f;
  const T* incoming = static_cast<const T*>(s.is_query() ? g.dq : g.dk);
  float sum = 0;
  for (std::int64_t first = begin; first < end; first += groups) {
    const std::int64_t wanted = first + threadIdx.x / lanes;
    const bool active = wanted < end;
    const std::int64_t row = active ? wanted : end - 1, at = row * s.width + s.slot * dh;
    if (s.is_value()) {
      if (active) sum += value_gradient<T, V>(a, s, g, row, lane, lanes, wants_values, dx, at);
    } else if (incoming) {
      sum += head_gradient<T, V>(static_cast<const T*>(a.qkv) + at, incoming + s.out_at(row),
                                 rope_row(a, row, fault), a, g.r[row * (a.heads + a.kv_heads) + s.slot], gain,
                                 lane, lanes, active, dx, at);
    } else if (active) {
      for (int i = lane * V; i < dh; i += lanes * V) dx.put(at + i, filled<V>(0));
    }
  }
  if (s.slot >= a.heads && !s.is_value()) return;
  __shared__ float sums[block_warps];
  sum = lane_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0;
  for (int w = 0; w < block_warps; ++w) total += sums[w];
  const int column = s.is_query() ? s.slot : s.slot - a.kv_heads;
  g.partial[blockIdx.y * (a.heads + a.kv_heads) + column] = total;
}

/// dvs = w sum, dw = vs sum, over all partial sums of the values' columns. One block.
__global__ void value_sums(Qkv a, QkvGradients g) {
  __shared__ float sums[block_threads];
  float sum = 0;
  const std::int64_t stride = a.heads + a.kv_heads;
  for (std::int64_t p = threadIdx.x; p < g.pieces.count; p += block_threads)
    for (int h = 0; h < a.kv_heads; ++h) sum += g.partial[p * stride + a.heads + h];
  sums[threadIdx.x] = sum;
  for (int half = block_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  Out<float>{static_cast<float*>(g.dvs.data), g.dvs.add}.put(0, *a.w * sums[0]);
  Out<float>{static_cast<float*>(g.dw.data), g.dw.add}.put(0, *a.vs * sums[0]);
}

}  // namespace

void qkv_prepare_backward(const Target& t, Storage storage, const Qkv& a, const QkvGradients& g) {
  if (g.pieces.rows == 0) return;
  with_head_shape(storage, a, {g.dq, g.dk, g.dv, g.dqkv.data, g.dve.data},
                  [&](auto zero, auto width, int lanes) {
                    const dim3 grid(static_cast<unsigned>(a.heads + 2 * a.kv_heads),
                                    static_cast<unsigned>(g.pieces.count));
                    backward<decltype(zero), decltype(width)::value>
                        <<<grid, block_threads, 0, t.stream>>>(a, g, lanes, t.fault);
                  });
  sum_partials(t, g.partial, g.pieces.count, a.heads + a.kv_heads, a.heads, nullptr, g.dgain);
  if (a.ve && (g.dvs || g.dw)) value_sums<<<1, block_threads, 0, t.stream>>>(a, g);
}

}  // namespace fairway::ops::cuda
