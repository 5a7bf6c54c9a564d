#include "attention.h"

#include <algorithm>

#include "attention_backward_work.cuh"
#include "tma.cuh"
#include "wgmma.cuh"

// Backward of attention in one pass over the visible blocks (Dao et al. 2022; Shah et al. 2024). A block owns
// 128 keys of one KV head and walks over the blocks of 128 queries of its query heads, so dK and dV stay in
// registers:
//   S^T = K Q^T, dP^T = V dO^T, P^T = exp2(S^T - lse), dS^T = P^T (dP^T - delta), dV += P^T dO, dK += dS^T Q,
//   dQ = dS K.
// dQ of a query block gets a share from every key block it sees. The shares are added in L2 by the copy
// engine, one key block after the other: a counter for each query block says whose turn it is, so the sums
// are the same in every run.
namespace fairway::ops::cuda {
namespace {

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
  Barrier dq_full[kConsumers], dq_empty[kConsumers], ds_full[2], ds_empty[2];
  int work;
};

__device__ void load_work(BackwardShared& s, const BackwardArgs& a, const Work& w, const CUtensorMap* map_q,
                          const CUtensorMap* map_k, const CUtensorMap* map_v, const CUtensorMap* map_dout,
                          const CUtensorMap* map_words) {
  s.kv_full.arrive_expect(sizeof(s.k) + sizeof(s.v));
  load_tile(s.k, map_k, s.kv_full, w.head, w.n * kKeys, w.batch);
  load_tile(s.v, map_v, s.kv_full, w.head, w.n * kKeys, w.batch);
  int step = 0;
  for (Steps it(a, w); it.next(); ++step) {
    const int stage = step % kStages, m = it.m, head = it.head();
    const std::uint32_t over = (step / kStages + 1) % 2;
    const int row = ((w.batch * a.heads + head) * a.tiles_q + m) * kQueries;
    const int extra = a.segment != 0 ? int(sizeof(s.segment[0])) : 0;
    s.q_empty[stage].wait(over);
    s.q_full[stage].arrive_expect(sizeof(s.q[0]) + sizeof(s.lse2[0]) + extra);
    load_tile(s.q[stage], map_q, s.q_full[stage], head, m * kQueries, w.batch);
    load_words(s.lse2[stage], map_words, s.q_full[stage], row);
    if (extra != 0)
      load_words(s.segment[stage], map_words, s.q_full[stage],
                 a.segment + (w.batch * a.tiles_q + m) * kQueries);
    s.dout_empty[stage].wait(over);
    s.dout_full[stage].arrive_expect(sizeof(s.dout[0]) + sizeof(s.delta[0]));
    load_tile(s.dout[stage], map_dout, s.dout_full[stage], head, m * kQueries, w.batch);
    load_words(s.delta[stage], map_words, s.dout_full[stage], a.delta + row);
  }
}

/// One thread: adds a warpgroup's dQ shares to the sums in memory, each in its turn (or, to measure what that
/// costs, in any order after the first, which overwrites what was there).
__device__ void add_shares(BackwardShared& s, const BackwardArgs& a, const Work& w, int group) {
  int step = 0;
  for (Steps it(a, w); it.next(); ++step) {
    const int order = it.order();
    const std::int64_t tile =
        ((std::int64_t(w.batch) * a.heads + it.head()) * a.tiles_q + it.m) * kConsumers + group;
    float* to = a.sums + tile * kShare;
    s.dq_full[group].wait(step % 2);
    if (order == 0) {
      store_bytes(to, s.dq[group], sizeof(s.dq[group]));
    } else {
      while (load_acquire(a.turns + tile) < min(order, a.turns_kept)) {
      }
      fence_async_all();
      add_floats(to, s.dq[group], sizeof(s.dq[group]));
    }
    bulk_commit();
    bulk_wait_read();
    s.dq_empty[group].arrive();
    bulk_wait();
    if (order < a.turns_kept)  // nobody else counts up now
      store_release(a.turns + tile, order + 1);
    else
      add_release(a.turns + tile, 1);
  }
}

/// Scores to minus infinity where a query must not see the key. A thread's elements: see wgmma.cuh, rows are
/// keys.
__device__ void mask(float (&p)[64], const BackwardShared& s, const BackwardArgs& a, const Work& w, int m,
                     int stage, int key0, int key) {
  const int t = threadIdx.x % 4,
            p0 = a.keys - a.queries + m * kQueries;  // position of the block's first query
  if (key0 + 63 > p0) {
#pragma unroll
    for (int i = 0; i < 64; ++i)
      if (key + i / 2 % 2 * 8 > p0 + i / 4 * 8 + 2 * t + i % 2) p[i] = -INFINITY;
  }
  if (a.bounds != nullptr && a.bounds[w.batch * a.tiles_q + m].y > key0) {
#pragma unroll
    for (int i = 0; i < 64; ++i)
      if (key + i / 2 % 2 * 8 < s.segment[stage][i / 4 * 8 + 2 * t + i % 2]) p[i] = -INFINITY;
  }
}

/// One warpgroup: 64 of the block's keys. While the products that follow the weights of one step run (dV, dK,
/// the dQ of the step before, and the scores of the next), the other warpgroup has the arithmetic units for
/// its own weights.
__device__ void compute_work(BackwardShared& s, const BackwardArgs& a, const Work& w, int group,
                             const CUtensorMap* map_dk, const CUtensorMap* map_dv) {
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, t = lane % 4;
  const int key0 = w.n * kKeys + group * 64, key = key0 + warp * 16 + lane / 4;
  float dk[32], dv[32], dq[32], p[64], ds[64];
#pragma unroll
  for (int i = 0; i < 32; ++i) dk[i] = dv[i] = 0;
  const std::uint64_t k_own = wgmma::descriptor(shared_address(s.k) + group * 64 * 128);
  const std::uint64_t v_own = wgmma::descriptor(shared_address(s.v) + group * 64 * 128);
  const std::uint64_t k_all = wgmma::descriptor(shared_address(s.k));
  std::uint32_t p_packed[32], ds_packed[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) p_packed[i] = ds_packed[i] = 0;
  const auto issue_scores = [&](int stage) {
    const std::uint64_t q = wgmma::descriptor(shared_address(s.q[stage]));
#pragma unroll
    for (int i = 0; i < 4; ++i)
      wgmma::product<0, 0>(p, k_own + i * wgmma::next_columns, q + i * wgmma::next_columns, i > 0);
    wgmma::commit();
  };
  const auto issue_dp = [&](int stage) {
    const std::uint64_t dout = wgmma::descriptor(shared_address(s.dout[stage]));
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < 4; ++i)
      wgmma::product<0, 0>(ds, v_own + i * wgmma::next_columns, dout + i * wgmma::next_columns, i > 0);
    wgmma::commit();
  };
  const auto issue_dv_dk = [&](std::uint32_t dout_tile, std::uint32_t q_tile) {
    const std::uint64_t dout = wgmma::descriptor(dout_tile), q = wgmma::descriptor(q_tile);
    wgmma::pin(p_packed), wgmma::pin(ds_packed), wgmma::pin(dv), wgmma::pin(dk);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < 8; ++i) wgmma::product<1>(dv, p_packed + 4 * i, dout + i * wgmma::next_rows, 1);
#pragma unroll
    for (int i = 0; i < 8; ++i) wgmma::product<1>(dk, ds_packed + 4 * i, q + i * wgmma::next_rows, 1);
    wgmma::commit();
  };
  const auto issue_dq = [&](int step) {
    if (step >= 0) s.ds_full[step % 2].wait(step / 2 % 2);
    const std::uint64_t rows = wgmma::descriptor(shared_address(s.ds[step & 1][group]));
    wgmma::pin(dq);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < 8; ++i)
      wgmma::product<1, 1>(dq, rows + i * wgmma::next_rows, k_all + i * wgmma::next_rows, i > 0);
    wgmma::commit();
  };
  // dS^T of these 64 keys for both warpgroups' dQ: [half of the queries][key][query], swizzled like the
  // copies.
  const auto share_ds = [&](int step) {
    s.ds_empty[step % 2].wait((step / 2 + 1) % 2);
    const int row = group * 64 + warp * 16 + lane % 16;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int chunk = 2 * i + lane / 16;
      store_matrices(shared_address(s.ds[step % 2][chunk / 8]) + row * 128 + ((chunk % 8 ^ row % 8) << 4),
                     ds_packed[4 * i], ds_packed[4 * i + 1], ds_packed[4 * i + 2], ds_packed[4 * i + 3]);
    }
    fence_async();
    __syncwarp();
    if (lane == 0) s.ds_full[step % 2].arrive();
  };
  const auto put_dq = [&](int step) {
    if (lane == 0) s.ds_empty[step % 2].arrive();
    s.dq_empty[group].wait((step + 1) % 2);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      reinterpret_cast<float4*>(s.dq[group])[j * 128 + threadIdx.x % 128] =
          make_float4(dq[4 * j], dq[4 * j + 1], dq[4 * j + 2], dq[4 * j + 3]);
  };
  const auto hand_over_dq = [&] {
    fence_async();
    s.dq_full[group].arrive();
  };

  // The warpgroups issue their products by turns, so that one's weights run beside the other's products.
  // (Barrier 2 + g opens for warpgroup g when the other one has arrived.)
  const auto take_turn = [&] { named_barrier(2 + group, 256); };
  const auto give_turn = [&] { named_barrier_arrive(2 + (group ^ 1), 256); };
  if (group == 1) give_turn();
  s.kv_full.wait(0);
  int step = 0;
  // dV and dK of the step before the first add zero times K; the dQ of steps -1 and -2 are computed from
  // whatever lies there and dropped.
  std::uint32_t dout_tile = shared_address(s.k), q_tile = dout_tile;
  for (Steps it(a, w); it.next(); ++step) {
    const int stage = step % kStages, full = step / kStages % 2;
    take_turn();
    issue_dv_dk(dout_tile, q_tile);
    issue_dq(step - 2);
    wgmma::wait<1>();
    wgmma::pin(dv), wgmma::pin(dk), wgmma::pin(p_packed), wgmma::pin(ds_packed);
    if (step > 0 && lane == 0) s.q_empty[stage ^ 1].arrive(), s.dout_empty[stage ^ 1].arrive();
    q_tile = shared_address(s.q[stage]), dout_tile = shared_address(s.dout[stage]);
    s.q_full[stage].wait(full);
    wgmma::pin(p), wgmma::pin(ds);
    wgmma::fence();
    issue_scores(stage);
    wgmma::wait<1>();
    wgmma::pin(dq);
    if (step > 1) put_dq(step - 2);  // frees the registers that dP needs
    s.dout_full[stage].wait(full);
    issue_dp(stage);
    give_turn();
    if (step > 1) hand_over_dq();
    wgmma::wait<1>();
    wgmma::pin(p);
    mask(p, s, a, w, it.m, stage, key0, key);
    const auto weight = [&](int j) {
      const float2 lse = *reinterpret_cast<const float2*>(&s.lse2[stage][8 * j + 2 * t]);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        p[4 * j + e] = exp2_fast(fmaf(p[4 * j + e], a.scale_log2, e % 2 ? -lse.y : -lse.x));
    };
#pragma unroll
    for (int j = 0; j < kEarly; ++j) weight(j);
    wgmma::wait<0>();
    wgmma::pin(p), wgmma::pin(ds);
    // One loop, so that the exponentials' unit and the others work side by side.
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const float2 delta = *reinterpret_cast<const float2*>(&s.delta[stage][8 * j + 2 * t]);
      if (j >= kEarly) weight(j);
      ds_packed[2 * j] = pack(p[4 * j] * (ds[4 * j] - delta.x), p[4 * j + 1] * (ds[4 * j + 1] - delta.y));
      ds_packed[2 * j + 1] =
          pack(p[4 * j + 2] * (ds[4 * j + 2] - delta.x), p[4 * j + 3] * (ds[4 * j + 3] - delta.y));
      p_packed[2 * j] = pack(p[4 * j], p[4 * j + 1]);
      p_packed[2 * j + 1] = pack(p[4 * j + 2], p[4 * j + 3]);
    }
    share_ds(step);
  }
  if (group == 0) take_turn();  // the turn that the other warpgroup gave last
  if (step > 0) {
    issue_dv_dk(dout_tile, q_tile);
    issue_dq(step - 2);
    wgmma::wait<0>();
    wgmma::pin(dv), wgmma::pin(dk), wgmma::pin(dq), wgmma::pin(p_packed), wgmma::pin(ds_packed);
    if (step > 1) put_dq(step - 2), hand_over_dq();
    issue_dq(step - 1);
    wgmma::wait<0>();
    wgmma::pin(dq);
    put_dq(step - 1), hand_over_dq();
  }
  // Both warpgroups are done with K and V: their tiles take dK and dV.
  named_barrier(1, kConsumers * 128);
  const int rows = group * 64 + warp * 16;
  store_rows(shared_address(s.k) + rows * 128, dk, a.scale, a.scale);
  store_rows(shared_address(s.v) + rows * 128, dv, 1, 1);
  fence_async();
  __syncwarp();
  if (lane == 0) {
    store_tile(map_dk, s.k + rows * kDim, w.head, w.n * kKeys + rows, w.batch);
    store_tile(map_dv, s.v + rows * kDim, w.head, w.n * kKeys + rows, w.batch);
    bulk_commit();
    bulk_wait_read();
  }
}

/// Transposes the 4 x 4 values of four neighbouring lanes, t being a lane's place: x[i] of lane t goes to
/// x[t] of lane i.
__device__ void transpose(std::uint32_t (&x)[4], int t) {
#pragma unroll
  for (int step = 1; step < 4; step <<= 1) {
    // Swaps the off-diagonal halves of blocks of 2 x `step`.
    const bool upper = (t & step) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & step) != 0) continue;
      const std::uint32_t got = __shfl_xor_sync(0xFFFFFFFF, upper ? x[i] : x[i | step], step);
      (upper ? x[i] : x[i | step]) = got;
    }
  }
}

/// The whole block: waits until all shares of some query blocks are in, and writes their dQ as rows of bf16.
__device__ void finish_work(const BackwardArgs& a, const Work& w) {
  const int count = min(kFinished, a.tiles_q - w.first);
  const std::int64_t tile0 = (std::int64_t(w.batch) * a.heads + w.head) * a.tiles_q + w.first;
  if (int(threadIdx.x) < count * kConsumers) {
    const int m = w.first + threadIdx.x / kConsumers,
              shares = last_block(a, m) - first_block(a, w.batch, m) + 1;
    while (load_acquire(a.turns + tile0 * kConsumers + threadIdx.x) != shares) {
    }
    fence_async_all();
  }
  named_barrier(1, kConsumers * 128);
  // Four lanes hold 8 columns of two rows each in every pair of columns: they exchange so that each gets 16
  // bytes.
  const float4* sums = reinterpret_cast<const float4*>(a.sums + tile0 * kConsumers * kShare);
  const int t = threadIdx.x % 4;
#pragma unroll 2
  for (int i = threadIdx.x; i < count * 512; i += kConsumers * 128) {
    const int thread = i % 128, j0 = i / 128 % 2 * 4, half = i / 256 % 2, m = i / 512;
    float4 x[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) x[j] = __ldcg(sums + (m * 2 + half) * 1024 + (j0 + j) * 128 + thread);
    std::uint32_t low[4], high[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      low[j] = pack(x[j].x * a.scale, x[j].y * a.scale);
      high[j] = pack(x[j].z * a.scale, x[j].w * a.scale);
    }
    transpose(low, t), transpose(high, t);
    const int row = (w.first + m) * kQueries + half * 64 + thread / 32 * 16 + thread % 32 / 4;
    const auto at = [&](int r) {
      return ((std::int64_t(w.batch) * a.queries + r) * a.heads + w.head) * 8 + j0 + t;
    };
    if (row < a.queries) a.dq[at(row)] = make_uint4(low[0], low[1], low[2], low[3]);
    if (row + 8 < a.queries) a.dq[at(row + 8)] = make_uint4(high[0], high[1], high[2], high[3]);
  }
}

__global__ void __launch_bounds__(kConsumers * 128 + 128, 1)
    backward_kernel(const __grid_constant__ CUtensorMap map_q, const __grid_constant__ CUtensorMap map_k,
                    const __grid_constant__ CUtensorMap map_v, const __grid_constant__ CUtensorMap map_dout,
                    const __grid_constant__ CUtensorMap map_dk, const __grid_constant__ CUtensorMap map_dv,
                    const __grid_constant__ CUtensorMap map_words, const __grid_constant__ BackwardArgs a) {
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
    for (int i = 0; i < 2; ++i) s.ds_full[i].init(kConsumers * 4), s.ds_empty[i].init(kConsumers * 4);
    fence_barrier_init();
  }
  __syncthreads();
  const Work w = work_at(a, s.work);
  const int role = __shfl_sync(0xFFFFFFFF, int(threadIdx.x) / 128, 0);
  if (w.n < 0) {
    if (role < kConsumers) finish_work(a, w);
    return;
  }
  if (role == kConsumers) {
    registers_down<40>();
    if (threadIdx.x == kConsumers * 128) load_work(s, a, w, &map_q, &map_k, &map_v, &map_dout, &map_words);
    for (int c = 0; c < kConsumers; ++c)
      if (threadIdx.x == (kConsumers * 4 + 1 + c) * 32) add_shares(s, a, w, c);
  } else {
    registers_up<232>();
    compute_work(s, a, w, role, &map_dk, &map_dv);
  }
}

/// delta = rowsum(do o), lse in log2, both padded to whole blocks; counters to zero. Eight lanes share a row.
__global__ void prepare_kernel(const uint4* o, const uint4* dout, const float* lse, float* lse2, float* delta,
                               int* counters, int counter_count, int batch, int queries, int padded,
                               int heads) {
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

/// Places of the pieces in the workspace.
struct Layout {
  std::size_t sums, lse2, delta, segment, bounds, ends, counters, counter_count, bytes;
  explicit Layout(const AttentionShape& s) {
    const std::size_t tiles = (s.queries + kQueries - 1) / kQueries,
                      rows = std::size_t(s.batch) * s.heads * tiles;
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
    ends = take(s.batch * std::size_t((s.keys + kKeys - 1) / kKeys) * sizeof(int));
    counter_count = rows * kConsumers + 1;
    counters = take(counter_count * sizeof(int));
    bytes = at;
  }
};

}  // namespace

std::size_t attention_backward_workspace(const AttentionShape& shape) { return Layout(shape).bytes; }

cudaError_t attention_backward(const AttentionShape& shape, const void* q, const void* k, const void* v,
                               const std::int32_t* segment_start, const void* o, const float* lse,
                               const void* dout, void* dq, void* dk, void* dv, void* workspace,
                               cudaStream_t stream, bool in_order) {
  if (shape.head_dim != kDim || shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 ||
      shape.queries <= 0 || shape.queries > shape.keys)
    return cudaErrorInvalidValue;
  if (shape.batch == 0) return cudaSuccess;
  const Layout layout(shape);
  char* base = static_cast<char*>(workspace);
  BackwardArgs a{};
  a.batch = shape.batch, a.queries = shape.queries, a.keys = shape.keys, a.heads = shape.heads;
  a.kv_heads = shape.kv_heads, a.group = shape.heads / shape.kv_heads;
  a.tiles_q = (shape.queries + kQueries - 1) / kQueries, a.tiles_k = (shape.keys + kKeys - 1) / kKeys;
  a.dq = static_cast<uint4*>(dq);
  const int units = shape.batch * shape.kv_heads;
  a.chunk = std::min(kChunk, units);
  // Enough work between a chunk and its finish that the blocks at work on the chunk are done by then.
  const int lag = (kFinishLag + a.chunk * a.tiles_k - 1) / (a.chunk * a.tiles_k);
  a.lag = std::min(lag, (units + a.chunk - 1) / a.chunk);
  a.turns_kept = in_order ? a.tiles_k : 1;
  a.scale = shape.scale, a.scale_log2 = shape.scale * kLog2E;
  a.sums = reinterpret_cast<float*>(base + layout.sums);
  float* lse2 = reinterpret_cast<float*>(base + layout.lse2);
  float* delta = reinterpret_cast<float*>(base + layout.delta);
  int* counters = reinterpret_cast<int*>(base + layout.counters);
  a.ticket = counters, a.turns = counters + 1;
  const std::int64_t words = std::int64_t(layout.bounds - layout.lse2) / 4;
  if (words > INT32_MAX) return cudaErrorInvalidValue;
  a.delta = int((layout.delta - layout.lse2) / 4);
  const int padded = a.tiles_q * kQueries;
  const std::int64_t rows = std::int64_t(shape.batch) * padded * shape.heads;
  prepare_kernel<<<unsigned((rows * 8 + 255) / 256), 256, 0, stream>>>(
      static_cast<const uint4*>(o), static_cast<const uint4*>(dout), lse, lse2, delta, counters,
      int(layout.counter_count), shape.batch, shape.queries, padded, shape.heads);
  if (segment_start != nullptr) {
    auto* copy = reinterpret_cast<std::int32_t*>(base + layout.segment);
    auto* bounds = reinterpret_cast<int2*>(base + layout.bounds);
    segment_kernel<<<shape.batch * a.tiles_q, kQueries, 0, stream>>>(segment_start, copy, bounds,
                                                                     shape.queries, shape.keys, a.tiles_q);
    a.segment = int((layout.segment - layout.lse2) / 4), a.bounds = bounds;
    auto* ends = reinterpret_cast<int*>(base + layout.ends);
    ends_kernel<<<(shape.batch * a.tiles_k + 3) / 4, 128, 0, stream>>>(a, ends);
    a.ends = ends;
  }
  CUtensorMap maps[7];
  cudaError_t e = cudaGetLastError();
  if (e == cudaSuccess) e = make_tile_map(maps[0], q, shape.batch, shape.queries, shape.heads, kQueries);
  if (e == cudaSuccess) e = make_tile_map(maps[1], k, shape.batch, shape.keys, shape.kv_heads, kKeys);
  if (e == cudaSuccess) e = make_tile_map(maps[2], v, shape.batch, shape.keys, shape.kv_heads, kKeys);
  if (e == cudaSuccess) e = make_tile_map(maps[3], dout, shape.batch, shape.queries, shape.heads, kQueries);
  if (e == cudaSuccess) e = make_tile_map(maps[4], dk, shape.batch, shape.keys, shape.kv_heads, 16);
  if (e == cudaSuccess) e = make_tile_map(maps[5], dv, shape.batch, shape.keys, shape.kv_heads, 16);
  if (e == cudaSuccess) e = make_word_map(maps[6], lse2, words, kQueries);
  constexpr int bytes = sizeof(BackwardShared) + 1024;
  if (e == cudaSuccess)
    e = cudaFuncSetAttribute(backward_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (e != cudaSuccess) return e;
  const int work =
      shape.batch * shape.kv_heads * (a.tiles_k + a.group * ((a.tiles_q + kFinished - 1) / kFinished));
  backward_kernel<<<work, kConsumers * 128 + 128, bytes, stream>>>(maps[0], maps[1], maps[2], maps[3],
                                                                   maps[4], maps[5], maps[6], a);
  return cudaGetLastError();
}

}  // namespace fairway::ops::cuda
