#include "attention.h"

// The contract written down without tricks: a warp owns a row and walks over the visible positions in order;
// its lanes share the head's dimensions. fp32 throughout.
namespace fairway::ops::cuda {
namespace {

constexpr int kWarps = 8, kLaneDims = 16, kMaxDim = 32 * kLaneDims;

struct PlainArgs {
  const float *q, *k, *v, *o, *lse, *dout;
  const std::int32_t* segment;
  AttentionShape shape;
  __device__ int group() const { return shape.heads / shape.kv_heads; }
  __device__ std::int64_t query_at(int b, int i, int h) const {
    return ((std::int64_t(b) * shape.queries + i) * shape.heads + h) * shape.head_dim;
  }
  __device__ std::int64_t key_at(int b, int j, int h) const {
    return ((std::int64_t(b) * shape.keys + j) * shape.kv_heads + h) * shape.head_dim;
  }
  __device__ std::int64_t row_at(int b, int h, int i) const {
    return (std::int64_t(b) * shape.heads + h) * shape.queries + i;
  }
  __device__ int first_key(int b, int p) const {
    return segment ? segment[std::int64_t(b) * shape.keys + p] : 0;
  }
};

/// A row of the head spread over the warp: lane l holds dimensions l, l + 32, ...
struct Row {
  float x[kLaneDims];
  __device__ void zero() {
    for (float& e : x) e = 0;
  }
  __device__ void load(const float* p, int dim) {
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) {
      const int d = threadIdx.x % 32 + 32 * i;
      x[i] = d < dim ? p[d] : 0;
    }
  }
  __device__ void store(float* p, int dim, float factor) const {
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) {
      const int d = threadIdx.x % 32 + 32 * i;
      if (d < dim) p[d] = x[i] * factor;
    }
  }
  __device__ float dot(const Row& other) const {
    float s = 0;
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) s += x[i] * other.x[i];
    for (int w = 16; w > 0; w /= 2) s += __shfl_xor_sync(0xFFFFFFFF, s, w);
    return s;
  }
  __device__ void add(const Row& other, float factor) {
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) x[i] += factor * other.x[i];
  }
};

__device__ std::int64_t warp_index() { return std::int64_t(blockIdx.x) * kWarps + threadIdx.x / 32; }

__global__ void forward_kernel(PlainArgs a, float* o, float* lse) {
  const AttentionShape& s = a.shape;
  const std::int64_t index = warp_index();
  if (index >= std::int64_t(s.batch) * s.heads * s.queries) return;
  const int i = index % s.queries, h = index / s.queries % s.heads, b = index / s.queries / s.heads;
  const int p = s.keys - s.queries + i;
  Row q, k, v, sum;
  q.load(a.q + a.query_at(b, i, h), s.head_dim);
  sum.zero();
  float top = -INFINITY, total = 0;
  for (int j = a.first_key(b, p); j <= p; ++j) {
    k.load(a.k + a.key_at(b, j, h / a.group()), s.head_dim);
    v.load(a.v + a.key_at(b, j, h / a.group()), s.head_dim);
    const float score = q.dot(k) * s.scale, next = fmaxf(top, score);
    const float keep = top == -INFINITY ? 0 : expf(top - next), weight = expf(score - next);
    total = total * keep + weight;
#pragma unroll
    for (int d = 0; d < kLaneDims; ++d) sum.x[d] = sum.x[d] * keep + weight * v.x[d];
    top = next;
  }
  sum.store(o + a.query_at(b, i, h), s.head_dim, total > 0 ? 1 / total : 0);
  if (threadIdx.x % 32 == 0) lse[a.row_at(b, h, i)] = top + logf(total);
}

__global__ void query_gradient_kernel(PlainArgs a, float* dq, float* delta) {
  const AttentionShape& s = a.shape;
  const std::int64_t index = warp_index();
  if (index >= std::int64_t(s.batch) * s.heads * s.queries) return;
  const int i = index % s.queries, h = index / s.queries % s.heads, b = index / s.queries / s.heads;
  const int p = s.keys - s.queries + i;
  Row q, dout, other, sum;
  q.load(a.q + a.query_at(b, i, h), s.head_dim);
  dout.load(a.dout + a.query_at(b, i, h), s.head_dim);
  other.load(a.o + a.query_at(b, i, h), s.head_dim);
  const float row_delta = dout.dot(other), lse = a.lse[a.row_at(b, h, i)];
  if (threadIdx.x % 32 == 0) delta[a.row_at(b, h, i)] = row_delta;
  sum.zero();
  for (int j = a.first_key(b, p); j <= p; ++j) {
    other.load(a.v + a.key_at(b, j, h / a.group()), s.head_dim);
    const float dp = dout.dot(other);
    other.load(a.k + a.key_at(b, j, h / a.group()), s.head_dim);
    sum.add(other, expf(q.dot(other) * s.scale - lse) * (dp - row_delta));
  }
  sum.store(dq + a.query_at(b, i, h), s.head_dim, s.scale);
}

__global__ void key_gradient_kernel(PlainArgs a, const float* delta, float* dk, float* dv) {
  const AttentionShape& s = a.shape;
  const std::int64_t index = warp_index();
  if (index >= std::int64_t(s.batch) * s.keys * s.kv_heads) return;
  const int g = index % s.kv_heads, j = index / s.kv_heads % s.keys, b = index / s.kv_heads / s.keys;
  const int offset = s.keys - s.queries;
  Row k, v, q, dout, sum_k, sum_v;
  k.load(a.k + a.key_at(b, j, g), s.head_dim);
  v.load(a.v + a.key_at(b, j, g), s.head_dim);
  sum_k.zero(), sum_v.zero();
  for (int h = g * a.group(); h < (g + 1) * a.group(); ++h) {
    for (int i = max(0, j - offset); i < s.queries; ++i) {
      if (a.first_key(b, offset + i) > j) continue;
      q.load(a.q + a.query_at(b, i, h), s.head_dim);
      dout.load(a.dout + a.query_at(b, i, h), s.head_dim);
      const float p = expf(q.dot(k) * s.scale - a.lse[a.row_at(b, h, i)]);
      sum_v.add(dout, p);
      sum_k.add(q, p * (dout.dot(v) - delta[a.row_at(b, h, i)]));
    }
  }
  sum_k.store(dk + a.key_at(b, j, g), s.head_dim, s.scale);
  sum_v.store(dv + a.key_at(b, j, g), s.head_dim, 1);
}

bool valid(const AttentionShape& s) {
  return s.head_dim > 0 && s.head_dim <= kMaxDim && s.kv_heads > 0 && s.heads % s.kv_heads == 0 &&
         s.queries <= s.keys;
}
unsigned blocks(std::int64_t warps) { return static_cast<unsigned>((warps + kWarps - 1) / kWarps); }

}  // namespace

cudaError_t attention_forward_plain(const AttentionShape& shape, const float* q, const float* k,
                                    const float* v, const std::int32_t* segment_start, float* o, float* lse,
                                    cudaStream_t stream) {
  if (!valid(shape)) return cudaErrorInvalidValue;
  const std::int64_t rows = std::int64_t(shape.batch) * shape.heads * shape.queries;
  if (rows == 0) return cudaSuccess;
  const PlainArgs a{q, k, v, nullptr, nullptr, nullptr, segment_start, shape};
  forward_kernel<<<blocks(rows), kWarps * 32, 0, stream>>>(a, o, lse);
  return cudaGetLastError();
}

cudaError_t attention_backward_plain(const AttentionShape& shape, const float* q, const float* k,
                                     const float* v, const std::int32_t* segment_start, const float* o,
                                     const float* lse, const float* dout, float* dq, float* dk, float* dv,
                                     float* delta, cudaStream_t stream) {
  if (!valid(shape)) return cudaErrorInvalidValue;
  const std::int64_t rows = std::int64_t(shape.batch) * shape.heads * shape.queries;
  const std::int64_t keys = std::int64_t(shape.batch) * shape.keys * shape.kv_heads;
  if (keys == 0) return cudaSuccess;
  const PlainArgs a{q, k, v, o, lse, dout, segment_start, shape};
  if (rows > 0) query_gradient_kernel<<<blocks(rows), kWarps * 32, 0, stream>>>(a, dq, delta);
  key_gradient_kernel<<<blocks(keys), kWarps * 32, 0, stream>>>(a, delta, dk, dv);
  return cudaGetLastError();
}

}  // namespace fairway::ops::cuda
