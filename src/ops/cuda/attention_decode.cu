// Attention of new positions against a key/value cache, the plain form: a block for each query and head.
#include "cuda/launch.cuh"
#include "fairway/ops/attention.h"

namespace fairway::ops::cuda {
namespace {

constexpr int warps = 8, most_parts = max_head_dim / 32;

struct DecodeShape {
  std::int64_t batch = 0, fresh = 0, capacity = 0;
  int heads = 0, kv_heads = 0, head_dim = 0;
};

/// The row's length, or 0 (noted) when the new positions do not fit behind it.
__device__ inline std::int64_t length_of(const DecodeShape& a, const std::int32_t* length, std::int64_t b,
                                         Fault* fault) {
  const std::int64_t n = length[b];
  if (n >= 0 && n + a.fresh <= a.capacity) return n;
  note_fault(fault, Check::cache_room, n, a.capacity - a.fresh + 1);
  return 0;
}

template <class T>
__global__ void store_new(DecodeShape a, const T* k, const T* v, const std::int32_t* length, Fault* fault,
                          T* k_cache, T* v_cache) {
  const std::int64_t width = static_cast<std::int64_t>(a.kv_heads) * a.head_dim, row = blockIdx.x;
  const std::int64_t b = row / a.fresh,
                     to = (b * a.capacity + length_of(a, length, b, fault) + row % a.fresh) * width;
  for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    k_cache[to + i] = k[row * width + i];
    v_cache[to + i] = v[row * width + i];
  }
}

/// Warps take every eighth key and keep a softmax relative to their own maximum (Milakov and Gimelshein
/// 2018); the warps' results are joined in order.
template <class T>
__global__ void __launch_bounds__(warps * 32) decode(DecodeShape a, const T* q, const std::int32_t* length,
                                                     const T* k_cache, const T* v_cache, Out<T> o) {
  extern __shared__ float shared[];  // [warps, dh] sums, [warps] maxima, [warps] totals
  const int dh = a.head_dim, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t row = blockIdx.x, head = blockIdx.y, b = row / a.fresh;
  const std::int64_t keys = length_of(a, length, b, nullptr) + row % a.fresh + 1;
  const std::int64_t at = (row * a.heads + head) * dh, stride = static_cast<std::int64_t>(a.kv_heads) * dh;
  const std::int64_t kv = b * a.capacity * stride + head / (a.heads / a.kv_heads) * dh;
  const float scale = 1.0f / sqrtf(static_cast<float>(dh));
  float query[most_parts], sum[most_parts] = {}, top = -INFINITY, total = 0;
#pragma unroll
  for (int p = 0; p < most_parts; ++p) query[p] = p * 32 + lane < dh ? widen(q[at + p * 32 + lane]) : 0.0f;
  for (std::int64_t key = warp; key < keys; key += warps) {
    float dot = 0;
#pragma unroll
    for (int p = 0; p < most_parts; ++p)
      if (p * 32 + lane < dh) dot += query[p] * widen(k_cache[kv + key * stride + p * 32 + lane]);
    const float score = lane_sum(dot) * scale, higher = fmaxf(top, score);
    const float rescale = expf(top - higher), weight = expf(score - higher);
    top = higher;
    total = total * rescale + weight;
#pragma unroll
    for (int p = 0; p < most_parts; ++p)
      if (p * 32 + lane < dh)
        sum[p] = sum[p] * rescale + weight * widen(v_cache[kv + key * stride + p * 32 + lane]);
  }
  float *maxima = shared + warps * dh, *totals = maxima + warps;
#pragma unroll
  for (int p = 0; p < most_parts; ++p)
    if (p * 32 + lane < dh) shared[warp * dh + p * 32 + lane] = sum[p];
  if (lane == 0) maxima[warp] = top, totals[warp] = total;
  __syncthreads();
  float highest = -INFINITY, all = 0;
  for (int w = 0; w < warps; ++w) highest = fmaxf(highest, maxima[w]);
  for (int w = 0; w < warps; ++w) all += totals[w] * expf(maxima[w] - highest);
  for (int i = threadIdx.x; i < dh; i += warps * 32) {
    float joined = 0;
    for (int w = 0; w < warps; ++w) joined += shared[w * dh + i] * expf(maxima[w] - highest);
    o.put(at + i, joined / all);
  }
}

}  // namespace

void attention_decode(const KernelArgs& a) {
  const HeadShape& h = static_cast<const AttentionDecode&>(a.op).shape;
  const Shape& q = a.in[0].shape();
  const DecodeShape s{q[0], q[1], a.in[4].shape()[1], h.heads, h.kv_heads, h.head_dim};
  const auto rows = static_cast<unsigned>(s.batch * s.fresh);
  if (rows == 0) return;
  const Target t = target(a);
  dispatch(a, a.in[0], [&]<class T>(T) {
    T *k_cache = static_cast<T*>(a.in[4].data), *v_cache = static_cast<T*>(a.in[5].data);
    store_new<T><<<rows, block_threads, 0, t.stream>>>(s, in<T>(a, 1), in<T>(a, 2), integers(a, 3), t.fault,
                                                       k_cache, v_cache);
    if (!a.out[0]) return;
    const dim3 grid(rows, static_cast<unsigned>(s.heads));
    const auto bytes = static_cast<unsigned>(warps * (s.head_dim + 2)) * sizeof(float);
    decode<T><<<grid, warps * 32, bytes, t.stream>>>(s, in<T>(a, 0), integers(a, 3), k_cache, v_cache,
                                                     out<T>(a, 0));
  });
}

}  // namespace fairway::ops::cuda
