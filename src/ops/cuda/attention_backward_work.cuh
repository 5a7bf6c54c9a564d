#pragma once
#include <cuda_runtime.h>

#include <cstdint>

// What attention_backward.cu works through: the arguments, the order of the pieces of work and of the steps
// in one, and what segments leave of both.
namespace fairway::ops::cuda {
namespace {

constexpr int kDim = 64, kKeys = 128, kQueries = 128, kStages = 2, kConsumers = 2;
constexpr int kEarly = 4;          ///< groups of 8 queries whose weights are computed while dP is on its way
constexpr int kChunk = 6;          ///< KV heads worked on at a time: their tensors and sums fit the L2 cache
constexpr int kFinishLag = 450;    ///< pieces of work between a chunk and the finish of its dQ
constexpr int kFinished = 8;       ///< query blocks whose dQ one block finishes at a time
constexpr int kShare = 64 * kDim;  ///< floats of dQ that one warpgroup computes per step
constexpr float kLog2E = 1.4426950408889634F;

struct BackwardArgs {
  const int2* bounds;  ///< least and greatest segment start by [batch, tiles_q], or null
  const int* ends;     ///< by [batch, tiles_k]: no query block from here on sees the keys; null: all do
  /// First words, counted from lse2's, of delta and of the padded copy of segments [batch, tiles_q * 128] (0:
  /// none); lse2 and delta are [batch, heads, tiles_q * 128], lse in units of log2, +inf for padding.
  int delta, segment;
  uint4* dq;
  float* sums;          ///< dQ shares [batch, heads, tiles_q, 2, 4096] in the order of the registers
  int *turns, *ticket;  ///< shares added so far by [batch, heads, tiles_q, 2]; next piece of work
  int batch, queries, keys, heads, kv_heads, group, tiles_q, tiles_k, chunk, lag;
  int turns_kept;  ///< a share waits for at most so many before it: all, or the one that starts the sum
  float scale, scale_log2;
};

/// One block's work: the keys [128 n, 128 n + 128) of one KV head, walking over query blocks [first,
/// tiles_q); or, where n < 0, turning the summed dQ of query blocks [first, first + kFinished) of query head
/// `head` into bf16.
struct Work {
  int batch, head, n, first;
};

/// Key blocks seen by query block m: the last one, by causality, and the first one, by segments.
__device__ int last_block(const BackwardArgs& a, int m) {
  return min(a.keys - a.queries + m * kQueries + kQueries - 1, a.keys - 1) / kKeys;
}
__device__ int first_block(const BackwardArgs& a, int batch, int m) {
  return a.bounds == nullptr ? 0 : a.bounds[batch * a.tiles_q + m].x / kKeys;
}

/// Work in the order in which blocks start: short pieces (late keys) first within a chunk of heads that fit
/// the L2 cache together. A piece adds its dQ shares after those of later keys, so it only ever waits for
/// pieces that started before it. The dQ of a chunk are finished `lag` chunks later, when its shares are
/// likely in (and still in the L2 cache).
__device__ Work work_at(const BackwardArgs& a, int t) {
  const int units = a.batch * a.kv_heads, chunks = (units + a.chunk - 1) / a.chunk;
  const int pieces = (a.tiles_q + kFinished - 1) / kFinished, per_unit = a.group * pieces;
  const int main_size = a.chunk * a.tiles_k, finish_size = a.chunk * per_unit;
  const auto here = [&](int chunk) { return min(a.chunk, units - chunk * a.chunk); };
  const auto main_work = [&](int chunk, int r) {
    const int unit = chunk * a.chunk + r % here(chunk), n = a.tiles_k - 1 - r / here(chunk);
    return Work{unit / a.kv_heads, unit % a.kv_heads, n, max(0, n * kKeys - (a.keys - a.queries)) / kQueries};
  };
  const auto finish = [&](int chunk, int r) {
    const int unit = chunk * a.chunk + r / per_unit, g = r % per_unit / pieces;
    return Work{unit / a.kv_heads, unit % a.kv_heads * a.group + g, -1, r % pieces * kFinished};
  };
  // [main 0] ... [main lag-1] [main lag, finish 0] ... [main last, finish last-lag] [finish last-lag+1] ...
  // [finish last]
  const int ahead = min(a.lag * main_size, units * a.tiles_k);
  if (t < ahead) return main_work(t / main_size, t % main_size);
  t -= ahead;
  if (a.lag < chunks) {
    const int c = min(a.lag + t / (main_size + finish_size), chunks - 1);
    const int r = t - (c - a.lag) * (main_size + finish_size), mains = here(c) * a.tiles_k;
    if (r < mains) return main_work(c, r);
    if (r < mains + finish_size) return finish(c - a.lag, r - mains);
    return finish(chunks - a.lag, r - mains - finish_size);
  }
  return finish(0, t);
}

/// The steps of a piece of work in order: for each query head of the group, each query block that sees the
/// keys.
struct Steps {
  const BackwardArgs& a;
  const Work& w;
  int m, g = 0, end;
  __device__ Steps(const BackwardArgs& args, const Work& work)
      : a(args),
        w(work),
        m(work.first - 1),
        end(args.ends == nullptr ? args.tiles_q : args.ends[work.batch * args.tiles_k + work.n]) {}
  __device__ bool next() {
    for (++m; g < a.group; ++g, m = w.first)
      for (; m < end; ++m)
        if (first_block(a, w.batch, m) <= w.n) return true;
    return false;
  }
  __device__ int head() const { return w.head * a.group + g; }
  /// Shares that go into dQ of this query block before this one.
  __device__ int order() const { return last_block(a, m) - w.n; }
};

/// Padded copy of the queries' segment starts and their extremes by block of queries.
__global__ void segment_kernel(const std::int32_t* segment, std::int32_t* copy, int2* bounds, int queries,
                               int keys, int tiles) {
  const int b = blockIdx.x / tiles, m = blockIdx.x % tiles, i = m * kQueries + threadIdx.x;
  const bool inside = i < queries;
  const std::int32_t own = inside ? max(0, segment[std::int64_t(b) * keys + keys - queries + i]) : 0;
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

/// One warp for each block of keys: the first query block behind the last that sees them.
__global__ void ends_kernel(BackwardArgs a, int* ends) {
  const int i = int((blockIdx.x * blockDim.x + threadIdx.x) / 32);
  if (i >= a.batch * a.tiles_k) return;
  const int batch = i / a.tiles_k, n = i % a.tiles_k;
  int end = 0;
  for (int m = int(threadIdx.x % 32); m < a.tiles_q; m += 32)
    if (first_block(a, batch, m) <= n) end = m + 1;
  end = __reduce_max_sync(0xFFFFFFFF, end);
  if (threadIdx.x % 32 == 0) ends[i] = end;
}

}  // namespace
}  // namespace fairway::ops::cuda
