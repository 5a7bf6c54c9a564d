#include "attention.h"
#include "tma.cuh"
#include "wgmma.cuh"

// Backward of attention in one pass over the visible blocks (Dao et al. 2022; Shah et al. 2024). A block owns 128 keys
// of one KV head and walks over the blocks of 128 queries of its query heads, so dK and dV stay in registers:
//   S^T = K Q^T, dP^T = V dO^T, P^T = exp2(S^T - lse), dS^T = P^T (dP^T - delta), dV += P^T dO, dK += dS^T Q, dQ = dS K.
// dQ of a query block gets a share from every key block it sees. The shares are added in L2 by the copy engine, one key
// block after the other: a counter for each query block says whose turn it is, so the sums are the same in every run.
namespace fairway::ops::cuda {
namespace {

constexpr int kDim = 64, kKeys = 128, kQueries = 128, kStages = 2, kConsumers = 2;
constexpr int kShare = 64 * kDim;  ///< floats of dQ that one warpgroup computes per step
constexpr float kLog2E = 1.4426950408889634F;

struct BackwardArgs {
  const std::int32_t* segment;  ///< padded copy [batch, tiles_q * 128] or null
  const int2* bounds;           ///< least and greatest segment start by [batch, tiles_q], or null
  const float *lse2, *delta;    ///< [batch, heads, tiles_q * 128]; lse in units of log2, +inf for padding
  float* sums;                  ///< dQ shares [batch, heads, tiles_q, 2, 4096] in the order of the registers
  int *turns, *ticket;          ///< shares added so far by [batch, heads, tiles_q]; next piece of work
  int batch, queries, keys, heads, kv_heads, group, tiles_q, tiles_k, chunk;
  float scale, scale_log2;
};

struct BackwardShared {
  alignas(1024) __nv_bfloat16 k[kKeys * kDim];
  alignas(1024) __nv_bfloat16 v[kKeys * kDim];
  alignas(1024) __nv_bfloat16 q[kStages][kQueries * kDim];
  alignas(1024) __nv_bfloat16 dout[kStages][kQueries * kDim];
  alignas(1024) __nv_bfloat16 ds[2][2][kKeys * 64];  ///< [turn][half of the queries][key][query]
  alignas(1024) float dq[kConsumers][kShare];
  alignas(128) float lse2[kStages][kQueries];
  alignas(128) float delta[kStages][kQueries];
  alignas(128) std::int32_t segment[kStages][kQueries];
  Barrier kv_full, q_full[kStages], q_empty[kStages], dout_full[kStages], dout_empty[kStages];
  Barrier dq_full[kConsumers], dq_empty[kConsumers];
  int work;
};

/// One block's work: the keys [key, key + 128) of one KV head, walking over query blocks [first, tiles_q).
struct Work {
  int batch, kv_head, n, first;
};

/// Key blocks seen by query block m: the last one, by causality, and the first one, by segments.
__device__ int last_block(const BackwardArgs& a, int m) {
  return min(a.keys - a.queries + m * kQueries + kQueries - 1, a.keys - 1) / kKeys;
}
__device__ int first_block(const BackwardArgs& a, int batch, int m) {
  return a.bounds == nullptr ? 0 : a.bounds[batch * a.tiles_q + m].x / kKeys;
}

/// Work in the order in which blocks start: short pieces (late keys) first within a chunk of heads. A piece of work
/// adds its dQ shares after those of later keys, so it only ever waits for pieces that started before it.
__device__ Work work_at(const BackwardArgs& a, int t) {
  const int units = a.batch * a.kv_heads, per_chunk = a.chunk * a.tiles_k, c = t / per_chunk, r = t - c * per_chunk;
  const int here = min(a.chunk, units - c * a.chunk), unit = c * a.chunk + r % here, n = a.tiles_k - 1 - r / here;
  const int offset = a.keys - a.queries;
  return {unit / a.kv_heads, unit % a.kv_heads, n, max(0, n * kKeys - offset) / kQueries};
}

/// Calls f(m, head, order of this share in dQ of m) for every step of the work, in order.
template <typename F>
__device__ void each_step(const BackwardArgs& a, const Work& w, const F& f) {
  for (int m = w.first; m < a.tiles_q; ++m) {
    if (first_block(a, w.batch, m) > w.n) continue;
    for (int g = 0; g < a.group; ++g) f(m, w.kv_head * a.group + g, last_block(a, m) - w.n);
  }
}

__device__ void load_work(BackwardShared& s, const BackwardArgs& a, const Work& w, const CUtensorMap* map_q,
                          const CUtensorMap* map_k, const CUtensorMap* map_v, const CUtensorMap* map_dout) {
  s.kv_full.arrive_expect(sizeof(s.k) + sizeof(s.v));
  load_tile(s.k, map_k, s.kv_full, w.kv_head, w.n * kKeys, w.batch);
  load_tile(s.v, map_v, s.kv_full, w.kv_head, w.n * kKeys, w.batch);
  int step = 0;
  each_step(a, w, [&](int m, int head, int) {
    const int stage = step % kStages;
    const std::uint32_t over = (step / kStages + 1) % 2;
    const std::int64_t row = (std::int64_t(w.batch) * a.heads + head) * a.tiles_q * kQueries + m * kQueries;
    const int extra = a.segment != nullptr ? int(sizeof(s.segment[0])) : 0;
    s.q_empty[stage].wait(over);
    s.q_full[stage].arrive_expect(sizeof(s.q[0]) + sizeof(s.lse2[0]) + extra);
    load_tile(s.q[stage], map_q, s.q_full[stage], head, m * kQueries, w.batch);
    load_bytes(s.lse2[stage], a.lse2 + row, sizeof(s.lse2[0]), s.q_full[stage]);
    if (extra != 0)
      load_bytes(s.segment[stage], a.segment + (std::int64_t(w.batch) * a.tiles_q + m) * kQueries, extra,
                 s.q_full[stage]);
    s.dout_empty[stage].wait(over);
    s.dout_full[stage].arrive_expect(sizeof(s.dout[0]) + sizeof(s.delta[0]));
    load_tile(s.dout[stage], map_dout, s.dout_full[stage], head, m * kQueries, w.batch);
    load_bytes(s.delta[stage], a.delta + row, sizeof(s.delta[0]), s.dout_full[stage]);
    ++step;
  });
}

/// One thread: adds the warpgroups' dQ shares to the sums in memory, each in its turn.
__device__ void add_shares(BackwardShared& s, const BackwardArgs& a, const Work& w) {
  int step = 0;
  each_step(a, w, [&](int m, int head, int order) {
    const std::int64_t tile = (std::int64_t(w.batch) * a.heads + head) * a.tiles_q + m;
    for (int c = 0; c < kConsumers; ++c) {
      s.dq_full[c].wait(step % 2);
      float* to = a.sums + (tile * kConsumers + c) * kShare;
      if (order == 0) {
        store_bytes(to, s.dq[c], sizeof(s.dq[c]));
      } else {
        if (c == 0) {
          while (load_acquire(a.turns + tile) != order) {
          }
          fence_async_all();
        }
        add_floats(to, s.dq[c], sizeof(s.dq[c]));
      }
      bulk_commit();
    }
    bulk_wait_read();
    for (int c = 0; c < kConsumers; ++c) s.dq_empty[c].arrive();
    bulk_wait();
    fence_async_all();
    store_release(a.turns + tile, order + 1);
    ++step;
  });
}

/// One warpgroup: 64 of the block's keys.
__device__ void compute_work(BackwardShared& s, const BackwardArgs& a, const Work& w, int group,
                             const CUtensorMap* map_dk, const CUtensorMap* map_dv) {
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int offset = a.keys - a.queries, key0 = w.n * kKeys + group * 64, key = key0 + warp * 16 + g;
  float dk[32], dv[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) dk[i] = dv[i] = 0;
  const std::uint64_t k_own = wgmma::descriptor(shared_address(s.k) + group * 64 * 128);
  const std::uint64_t v_own = wgmma::descriptor(shared_address(s.v) + group * 64 * 128);
  const std::uint64_t k_all = wgmma::descriptor(shared_address(s.k));
  s.kv_full.wait(0);
  int step = 0;
  each_step(a, w, [&](int m, int, int) {
    const int stage = step % kStages;
    const std::uint32_t full = step / kStages % 2;
    float p[64], ds[64];
    s.q_full[stage].wait(full);
    const std::uint32_t q_tile = shared_address(s.q[stage]), dout_tile = shared_address(s.dout[stage]);
    const std::uint64_t q_columns = wgmma::descriptor(q_tile), dout_columns = wgmma::descriptor(dout_tile);
    wgmma::pin(p), wgmma::pin(ds);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < 4; ++i)
      wgmma::product<0, 0>(p, k_own + i * wgmma::next_columns, q_columns + i * wgmma::next_columns, i > 0);
    wgmma::commit();
    s.dout_full[stage].wait(full);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      wgmma::product<0, 0>(ds, v_own + i * wgmma::next_columns, dout_columns + i * wgmma::next_columns, i > 0);
    wgmma::commit();
    wgmma::wait<1>();
    wgmma::pin(p);
    const int p0 = offset + m * kQueries;  // position of the block's first query
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const float2 lse = *reinterpret_cast<const float2*>(&s.lse2[stage][8 * j + 2 * t]);
      p[4 * j] = exp2_fast(fmaf(p[4 * j], a.scale_log2, -lse.x));
      p[4 * j + 1] = exp2_fast(fmaf(p[4 * j + 1], a.scale_log2, -lse.y));
      p[4 * j + 2] = exp2_fast(fmaf(p[4 * j + 2], a.scale_log2, -lse.x));
      p[4 * j + 3] = exp2_fast(fmaf(p[4 * j + 3], a.scale_log2, -lse.y));
    }
    if (key0 + warp * 16 + 15 > p0) {
#pragma unroll
      for (int i = 0; i < 64; ++i)
        if (key + i / 2 % 2 * 8 > p0 + i / 4 * 8 + 2 * t + i % 2) p[i] = 0;
    }
    if (a.bounds != nullptr && a.bounds[w.batch * a.tiles_q + m].y > key0) {
#pragma unroll
      for (int i = 0; i < 64; ++i)
        if (key + i / 2 % 2 * 8 < s.segment[stage][i / 4 * 8 + 2 * t + i % 2]) p[i] = 0;
    }
    wgmma::wait<0>();
    wgmma::pin(ds);
    std::uint32_t p_packed[32], ds_packed[32];
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const float2 delta = *reinterpret_cast<const float2*>(&s.delta[stage][8 * j + 2 * t]);
      ds_packed[2 * j] = pack(p[4 * j] * (ds[4 * j] - delta.x), p[4 * j + 1] * (ds[4 * j + 1] - delta.y));
      ds_packed[2 * j + 1] = pack(p[4 * j + 2] * (ds[4 * j + 2] - delta.x), p[4 * j + 3] * (ds[4 * j + 3] - delta.y));
      p_packed[2 * j] = pack(p[4 * j], p[4 * j + 1]);
      p_packed[2 * j + 1] = pack(p[4 * j + 2], p[4 * j + 3]);
    }
    wgmma::pin(p_packed), wgmma::pin(ds_packed), wgmma::pin(dv), wgmma::pin(dk);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < 8; ++i) wgmma::product<1>(dv, p_packed + 4 * i, dout_columns + i * wgmma::next_rows, 1);
#pragma unroll
    for (int i = 0; i < 8; ++i) wgmma::product<1>(dk, ds_packed + 4 * i, q_columns + i * wgmma::next_rows, 1);
    wgmma::commit();
    // dS^T of these 64 keys for the warpgroups' dQ: [half of the queries][key][query], swizzled like the copies.
    {
      const int row = group * 64 + warp * 16 + lane % 16;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int chunk = 2 * i + lane / 16;
        store_matrices(shared_address(s.ds[step % 2][chunk / 8]) + row * 128 + ((chunk % 8 ^ row % 8) << 4),
                       ds_packed[4 * i], ds_packed[4 * i + 1], ds_packed[4 * i + 2], ds_packed[4 * i + 3]);
      }
    }
    fence_async();
    named_barrier(1, kConsumers * 128);
    float dq[32];
    const std::uint64_t ds_rows = wgmma::descriptor(shared_address(s.ds[step % 2][group]));
    wgmma::pin(dq);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < 8; ++i)
      wgmma::product<1, 1>(dq, ds_rows + i * wgmma::next_rows, k_all + i * wgmma::next_rows, i > 0);
    wgmma::commit();
    wgmma::wait<1>();
    wgmma::pin(dv), wgmma::pin(dk), wgmma::pin(p_packed), wgmma::pin(ds_packed);
    if (lane == 0) s.q_empty[stage].arrive(), s.dout_empty[stage].arrive();
    wgmma::wait<0>();
    wgmma::pin(dq);
    s.dq_empty[group].wait((step + 1) % 2);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      reinterpret_cast<float4*>(s.dq[group])[j * 128 + threadIdx.x % 128] =
          make_float4(dq[4 * j], dq[4 * j + 1], dq[4 * j + 2], dq[4 * j + 3]);
    fence_async();
    s.dq_full[group].arrive();
    ++step;
  });
  // Both warpgroups are done with K and V: their tiles take dK and dV.
  named_barrier(1, kConsumers * 128);
  const int rows = group * 64 + warp * 16;
  store_rows(shared_address(s.k) + rows * 128, dk, a.scale, a.scale);
  store_rows(shared_address(s.v) + rows * 128, dv, 1, 1);
  fence_async();
  __syncwarp();
  if (lane == 0) {
    store_tile(map_dk, s.k + rows * kDim, w.kv_head, w.n * kKeys + rows, w.batch);
    store_tile(map_dv, s.v + rows * kDim, w.kv_head, w.n * kKeys + rows, w.batch);
    bulk_commit();
    bulk_wait();
  }
}

__global__ void __launch_bounds__(kConsumers * 128 + 128, 1)
    backward_kernel(const __grid_constant__ CUtensorMap map_q, const __grid_constant__ CUtensorMap map_k,
                    const __grid_constant__ CUtensorMap map_v, const __grid_constant__ CUtensorMap map_dout,
                    const __grid_constant__ CUtensorMap map_dk, const __grid_constant__ CUtensorMap map_dv,
                    const __grid_constant__ BackwardArgs a) {
  extern __shared__ char raw[];
  BackwardShared& s = *reinterpret_cast<BackwardShared*>(raw + (-shared_address(raw) & 1023));
  if (threadIdx.x == 0) {
    s.work = atomicAdd(a.ticket, 1);  // blocks start in the order of their work, whatever their index
    s.kv_full.init(1);
    for (int i = 0; i < kStages; ++i) {
      s.q_full[i].init(1), s.q_empty[i].init(kConsumers * 4);
      s.dout_full[i].init(1), s.dout_empty[i].init(kConsumers * 4);
    }
    for (int i = 0; i < kConsumers; ++i) s.dq_full[i].init(128), s.dq_empty[i].init(1);
    fence_barrier_init();
  }
  __syncthreads();
  const Work w = work_at(a, s.work);
  const int role = __shfl_sync(0xFFFFFFFF, int(threadIdx.x) / 128, 0);
  if (role == kConsumers) {
    registers_down<24>();
    if (threadIdx.x == kConsumers * 128) load_work(s, a, w, &map_q, &map_k, &map_v, &map_dout);
    if (threadIdx.x == kConsumers * 128 + 32) add_shares(s, a, w);
  } else {
    registers_up<240>();
    compute_work(s, a, w, role, &map_dk, &map_dv);
  }
}

/// delta = rowsum(do o), lse in log2, both padded to whole blocks; counters to zero. Eight lanes share a row.
__global__ void prepare_kernel(const uint4* o, const uint4* dout, const float* lse, float* lse2, float* delta,
                               int* counters, int counter_count, int batch, int queries, int padded, int heads) {
  const std::int64_t thread = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < counter_count) counters[thread] = 0;
  const std::int64_t row = thread / 8;  // (batch, query, head), queries padded
  if (row >= std::int64_t(batch) * padded * heads) return;
  const int h = row % heads, i = row / heads % padded, b = row / heads / padded;
  const std::int64_t at = (std::int64_t(b) * heads + h) * padded + i;
  float sum = 0;
  if (i < queries) {
    const std::int64_t source = ((std::int64_t(b) * queries + i) * heads + h) * 8 + thread % 8;
    const uint4 x = o[source], y = dout[source];
    const std::uint32_t xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
    for (int e = 0; e < 4; ++e) {
      sum = fmaf(__uint_as_float(xs[e] << 16), __uint_as_float(ys[e] << 16), sum);
      sum = fmaf(__uint_as_float(xs[e] & 0xFFFF0000U), __uint_as_float(ys[e] & 0xFFFF0000U), sum);
    }
  }
  for (int w = 4; w > 0; w /= 2) sum += __shfl_xor_sync(0xFFFFFFFF, sum, w);
  if (thread % 8 != 0) return;
  delta[at] = sum;
  lse2[at] = i < queries ? lse[(std::int64_t(b) * heads + h) * queries + i] * kLog2E : INFINITY;
}

/// Padded copy of the queries' segment starts and their extremes by block of queries.
__global__ void segment_kernel(const std::int32_t* segment, std::int32_t* copy, int2* bounds, int queries, int keys,
                               int tiles) {
  const int b = blockIdx.x / tiles, m = blockIdx.x % tiles, i = m * kQueries + threadIdx.x;
  const bool inside = i < queries;
  const std::int32_t own =
      inside ? max(0, segment[std::int64_t(b) * keys + keys - queries + i]) : 0;
  copy[std::int64_t(blockIdx.x) * kQueries + threadIdx.x] = own;
  __shared__ int low[kQueries / 32], high[kQueries / 32];
  low[threadIdx.x / 32] = __reduce_min_sync(0xFFFFFFFF, inside ? own : keys - 1);
  high[threadIdx.x / 32] = __reduce_max_sync(0xFFFFFFFF, own);
  __syncthreads();
  if (threadIdx.x != 0) return;
  int2 r{low[0], high[0]};
  for (int i = 1; i < kQueries / 32; ++i) r.x = min(r.x, low[i]), r.y = max(r.y, high[i]);
  bounds[blockIdx.x] = r;
}

/// The sums, from the registers' order to rows of bf16, times the scale. A thread takes one thread's piece of a share.
__global__ void finish_kernel(const float4* sums, std::uint32_t* dq, int queries, int heads, int tiles, float scale,
                              std::int64_t count) {
  const std::int64_t index = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const int thread = index % 128, j = index / 128 % 8, half = index / 1024 % 2;
  const std::int64_t tile = index / 2048;
  const int m = tile % tiles, h = tile / tiles % heads, b = tile / tiles / heads;
  const float4 x = sums[index];
  const int row = m * kQueries + half * 64 + thread / 32 * 16 + thread % 32 / 4, pair = j * 4 + thread % 4;
  const auto at = [&](int r) { return ((std::int64_t(b) * queries + r) * heads + h) * (kDim / 2) + pair; };
  if (row < queries) dq[at(row)] = pack(x.x * scale, x.y * scale);
  if (row + 8 < queries) dq[at(row + 8)] = pack(x.z * scale, x.w * scale);
}

/// Places of the pieces in the workspace.
struct Layout {
  std::size_t sums, lse2, delta, segment, bounds, counters, counter_count, bytes;
  explicit Layout(const AttentionShape& s) {
    const std::size_t tiles = (s.queries + kQueries - 1) / kQueries, rows = std::size_t(s.batch) * s.heads * tiles;
    std::size_t at = 0;
    const auto take = [&](std::size_t n) {
      const std::size_t start = at;
      at += (n + 255) / 256 * 256;
      return start;
    };
    sums = take(rows * kConsumers * kShare * sizeof(float));
    lse2 = take(rows * kQueries * sizeof(float));
    delta = take(rows * kQueries * sizeof(float));
    segment = take(s.batch * tiles * kQueries * sizeof(std::int32_t));
    bounds = take(s.batch * tiles * sizeof(int2));
    counter_count = rows + 1;
    counters = take(counter_count * sizeof(int));
    bytes = at;
  }
};

}  // namespace

std::size_t attention_backward_workspace(const AttentionShape& shape) { return Layout(shape).bytes; }

cudaError_t attention_backward(const AttentionShape& shape, const void* q, const void* k, const void* v,
                               const std::int32_t* segment_start, const void* o, const float* lse, const void* dout,
                               void* dq, void* dk, void* dv, void* workspace, cudaStream_t stream) {
  if (shape.head_dim != kDim || shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 || shape.queries <= 0 ||
      shape.queries > shape.keys)
    return cudaErrorInvalidValue;
  if (shape.batch == 0) return cudaSuccess;
  const Layout layout(shape);
  char* base = static_cast<char*>(workspace);
  BackwardArgs a{};
  a.batch = shape.batch, a.queries = shape.queries, a.keys = shape.keys, a.heads = shape.heads;
  a.kv_heads = shape.kv_heads, a.group = shape.heads / shape.kv_heads;
  a.tiles_q = (shape.queries + kQueries - 1) / kQueries, a.tiles_k = (shape.keys + kKeys - 1) / kKeys;
  a.chunk = 16;
  a.scale = shape.scale, a.scale_log2 = shape.scale * kLog2E;
  a.sums = reinterpret_cast<float*>(base + layout.sums);
  float* lse2 = reinterpret_cast<float*>(base + layout.lse2);
  float* delta = reinterpret_cast<float*>(base + layout.delta);
  int* counters = reinterpret_cast<int*>(base + layout.counters);
  a.lse2 = lse2, a.delta = delta, a.ticket = counters, a.turns = counters + 1;
  const int padded = a.tiles_q * kQueries;
  const std::int64_t rows = std::int64_t(shape.batch) * padded * shape.heads;
  prepare_kernel<<<unsigned((rows * 8 + 255) / 256), 256, 0, stream>>>(
      static_cast<const uint4*>(o), static_cast<const uint4*>(dout), lse, lse2, delta, counters,
      int(layout.counter_count), shape.batch, shape.queries, padded, shape.heads);
  if (segment_start != nullptr) {
    auto* copy = reinterpret_cast<std::int32_t*>(base + layout.segment);
    auto* bounds = reinterpret_cast<int2*>(base + layout.bounds);
    segment_kernel<<<shape.batch * a.tiles_q, kQueries, 0, stream>>>(segment_start, copy, bounds, shape.queries,
                                                                     shape.keys, a.tiles_q);
    a.segment = copy, a.bounds = bounds;
  }
  CUtensorMap maps[6];
  cudaError_t e = cudaGetLastError();
  if (e == cudaSuccess) e = make_tile_map(maps[0], q, shape.batch, shape.queries, shape.heads, kQueries);
  if (e == cudaSuccess) e = make_tile_map(maps[1], k, shape.batch, shape.keys, shape.kv_heads, kKeys);
  if (e == cudaSuccess) e = make_tile_map(maps[2], v, shape.batch, shape.keys, shape.kv_heads, kKeys);
  if (e == cudaSuccess) e = make_tile_map(maps[3], dout, shape.batch, shape.queries, shape.heads, kQueries);
  if (e == cudaSuccess) e = make_tile_map(maps[4], dk, shape.batch, shape.keys, shape.kv_heads, 16);
  if (e == cudaSuccess) e = make_tile_map(maps[5], dv, shape.batch, shape.keys, shape.kv_heads, 16);
  constexpr int bytes = sizeof(BackwardShared) + 1024;
  if (e == cudaSuccess) e = cudaFuncSetAttribute(backward_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (e != cudaSuccess) return e;
  const int work = shape.batch * shape.kv_heads * a.tiles_k;
  backward_kernel<<<work, kConsumers * 128 + 128, bytes, stream>>>(maps[0], maps[1], maps[2], maps[3], maps[4],
                                                                   maps[5], a);
  const std::int64_t pieces = rows / kQueries * 2048;
  finish_kernel<<<unsigned((pieces + 255) / 256), 256, 0, stream>>>(
      reinterpret_cast<const float4*>(a.sums), static_cast<std::uint32_t*>(dq), shape.queries, shape.heads, a.tiles_q,
      a.scale, pieces);
  return cudaGetLastError();
}

}  // namespace fairway::ops::cuda
