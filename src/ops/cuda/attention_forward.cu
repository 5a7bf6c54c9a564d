#include "attention.h"

#include <cmath>

#include "attention_softmax.cuh"
#include "tma.cuh"
#include "wgmma.cuh"

// Online-softmax attention (Dao et al. 2022; Shah et al. 2024 for the split into loading and computing
// warps). A resident block takes tiles of groups x 64 query rows one after the other; each of its warpgroups
// owns 64 rows of one head. One more warp streams key and value blocks from the diagonal down. While a
// warpgroup's exponentials run, its previous P V product and the other warpgroups' products keep the matrix
// units busy.
namespace fairway::ops::cuda {
namespace {

constexpr int kDim = 64, kRows = 64;
constexpr float kLog2E = 1.4426950408889634F;

struct ForwardArgs {
  const std::int32_t* segment;
  float* lse;
  int batch, queries, keys, heads, group;  ///< group: query heads per KV head
  int pack;                                ///< query heads in one tile (they share a KV head)
  int row_tiles, units,
      chunk;  ///< tiles along rows; batch * heads / pack; units kept near each other in time
  float scale_log2;
  float bound;  ///< scores in log2 are at most this times the query's norm, with unit keys
};

template <int Groups, int Keys, int Stages>
struct ForwardShared {
  static constexpr int groups = Groups;
  alignas(1024) __nv_bfloat16 q[2][Groups][kRows * kDim];
  alignas(1024) __nv_bfloat16 k[Stages][Keys * kDim];
  alignas(1024) __nv_bfloat16 v[Stages][Keys * kDim];
  Barrier q_full[2], q_empty[2], k_full[Stages], k_empty[Stages], v_full[Stages], v_empty[Stages];
};

struct Tile {
  int batch, head, row;  ///< first query head and first query row of the tile
};

/// Tiles in order of falling length within a chunk of heads whose keys and values fit the L2 cache together.
__device__ Tile tile_at(const ForwardArgs& a, int t, int tile_rows) {
  const int per_chunk = a.chunk * a.row_tiles, c = t / per_chunk, r = t - c * per_chunk;
  const int here = min(a.chunk, a.units - c * a.chunk);
  const int unit = c * a.chunk + r % here, m = a.row_tiles - 1 - r / here;
  const int per_batch = a.heads / a.pack;
  return {unit / per_batch, unit % per_batch * a.pack, m * tile_rows};
}

/// First key block seen by rows [row, row + count) of the queries; whole warp, same answer in every lane.
template <int Keys>
__device__ int first_block(const ForwardArgs& a, int batch, int row, int count) {
  if (a.segment == nullptr) return 0;
  const int first = a.keys - a.queries + row, end = min(first + count, a.keys);
  int least = first < a.keys ? first : 0;
  for (int p = first + int(threadIdx.x % 32); p < end; p += 32)
    least = min(least, a.segment[std::int64_t(batch) * a.keys + p]);
  return max(0, __reduce_min_sync(0xFFFFFFFF, least)) / Keys;
}

template <typename Shared, int Keys, int Stages>
__device__ void load_tiles(Shared& s, const ForwardArgs& a, const CUtensorMap* map_q,
                           const CUtensorMap* map_k, const CUtensorMap* map_v, int tiles) {
  constexpr int groups = Shared::groups;
  const bool leader = threadIdx.x % 32 == 0;
  const int tile_rows = groups * kRows / a.pack;
  unsigned step = 0, turn = 0;
  for (int t = blockIdx.x; t < tiles; t += gridDim.x, ++turn) {
    const Tile tile = tile_at(a, t, tile_rows);
    const int low = first_block<Keys>(a, tile.batch, tile.row, tile_rows);
    const int high = min(a.keys - a.queries + tile.row + tile_rows - 1, a.keys - 1) / Keys;
    if (leader) {
      const unsigned slot = turn % 2;
      s.q_empty[slot].wait((turn / 2 + 1) % 2);
      s.q_full[slot].arrive_expect(sizeof(s.q[slot]));
      for (int g = 0; g < groups; ++g)
        load_tile(s.q[slot][g], map_q, s.q_full[slot], tile.head + g % a.pack, tile.row + g / a.pack * kRows,
                  tile.batch);
      const int kv_head = tile.head / a.group;
      for (int n = high; n >= low; --n, ++step) {
        const unsigned stage = step % Stages;
        const std::uint32_t over = (step / Stages + 1) % 2;
        s.k_empty[stage].wait(over);
        s.k_full[stage].arrive_expect(sizeof(s.k[stage]));
        load_tile(s.k[stage], map_k, s.k_full[stage], kv_head, n * Keys, tile.batch);
        s.v_empty[stage].wait(over);
        s.v_full[stage].arrive_expect(sizeof(s.v[stage]));
        load_tile(s.v[stage], map_v, s.v_full[stage], kv_head, n * Keys, tile.batch);
      }
    }
    __syncwarp();
  }
}

template <int N>
__device__ void pack_all(std::uint32_t (&p)[N / 2], const float (&s)[N]) {
#pragma unroll
  for (int i = 0; i < N / 2; ++i) p[i] = pack(s[2 * i], s[2 * i + 1]);
}

/// A warpgroup's 64 rows of Q as the left operand, read from shared memory by every product.
struct QueryTile {
  std::uint64_t tile;
  explicit __device__ QueryTile(std::uint32_t address) : tile(wgmma::descriptor(address)) {}
  /// S = Q K^T
  template <int N>
  __device__ void scores(float (&s)[N], std::uint64_t k) const {
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i)
      wgmma::product<0, 0>(s, tile + i * wgmma::next_columns, k + i * wgmma::next_columns, i > 0);
  }
};
/// O += P V.
template <int N>
__device__ void values(float (&o)[32], const std::uint32_t (&p)[N], std::uint64_t v) {
#pragma unroll
  for (int i = 0; i < N / 4; ++i) wgmma::product<1>(o, p + 4 * i, v + i * wgmma::next_rows, 1);
}

/// Masks of one warp's rows of a tile.
template <int Keys>
struct Visible {
  int p0, low;  ///< positions of the warp's and of the thread's first row
  int start[2] = {0, 0}, start_max = 0;

  __device__ Visible(const ForwardArgs& a, int batch, int row) : p0(row), low(row + threadIdx.x % 32 / 4) {
    if (a.segment == nullptr) return;
    for (int r = 0; r < 2; ++r)
      if (low + 8 * r < a.keys) start[r] = a.segment[std::int64_t(batch) * a.keys + low + 8 * r];
    start_max = __reduce_max_sync(0xFFFFFFFF, max(start[0], start[1]));
  }
  /// Scores of a block to minus infinity where a row must not see the key.
  __device__ void mask(float (&score)[Keys / 2], int block) const {
    const int first = block * Keys;
    if (first + Keys - 1 <= p0 && first >= start_max) return;
    const int column = first + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < Keys / 2; ++i) {
      const int key = column + i / 4 * 8 + i % 2, r = i / 2 % 2;
      if (key > low + 8 * r || key < start[r]) score[i] = -INFINITY;
    }
  }
};

/// A warpgroup's blocks of keys from n, whose scores are in the making, down to `last`: O and the sums.
template <typename Shared, int Keys, int Stages, typename Softmax>
__device__ void attend(Shared& s, const ForwardArgs& a, const QueryTile& q, const Visible<Keys>& visible,
                       Softmax& soft, float (&o)[32], float (&score)[Keys / 2], int n, int last,
                       unsigned& step) {
  const bool leader = threadIdx.x % 32 == 0;
  const auto parity = [](unsigned st) { return st / Stages % 2; };
  std::uint32_t p[Keys / 4];
  wgmma::wait<0>();
  wgmma::pin(score);
  if (leader) s.k_empty[step % Stages].arrive();
  visible.mask(score, n);
  soft.apply(score, a.scale_log2);
  pack_all(p, score);
  for (--n; n >= last; --n, ++step) {
    const unsigned stage = step % Stages, ahead = (step + 1) % Stages;
    s.k_full[ahead].wait(parity(step + 1));
    wgmma::pin(score), wgmma::pin(p), wgmma::pin(o);
    wgmma::fence();
    q.scores(score, wgmma::descriptor(shared_address(s.k[ahead])));
    wgmma::commit();
    s.v_full[stage].wait(parity(step));
    wgmma::fence();
    values(o, p, wgmma::descriptor(shared_address(s.v[stage])));
    wgmma::commit();
    wgmma::wait<1>();
    wgmma::pin(score);
    if (leader) s.k_empty[ahead].arrive();
    visible.mask(score, n);
    const bool rescale = soft.apply(score, a.scale_log2);
    wgmma::wait<0>();
    wgmma::pin(o), wgmma::pin(p);
    if (leader) s.v_empty[stage].arrive();
    if (rescale) {
#pragma unroll
      for (int i = 0; i < 32; ++i) o[i] *= soft.factor[i / 2 % 2];
    }
    pack_all(p, score);
  }
  const unsigned stage = step % Stages;
  s.v_full[stage].wait(parity(step));
  wgmma::pin(p), wgmma::pin(o);
  wgmma::fence();
  values(o, p, wgmma::descriptor(shared_address(s.v[stage])));
  wgmma::commit();
  wgmma::wait<0>();
  wgmma::pin(o);
  if (leader) s.v_empty[stage].arrive();
  ++step;
}

template <typename Shared, int Keys, int Stages, bool UnitKeys>
__device__ void compute_tiles(Shared& s, const ForwardArgs& a, const CUtensorMap* map_o, int tiles,
                              int group) {
  constexpr int groups = Shared::groups;
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int tile_rows = groups * kRows / a.pack, offset = a.keys - a.queries;
  unsigned step = 0, turn = 0;
  const auto parity = [](unsigned st) { return st / Stages % 2; };
  for (int t = blockIdx.x; t < tiles; t += gridDim.x, ++turn) {
    const Tile tile = tile_at(a, t, tile_rows);
    const int head = tile.head + group % a.pack, row0 = tile.row + group / a.pack * kRows;
    const int low = first_block<Keys>(a, tile.batch, tile.row, tile_rows);
    int n = min(offset + tile.row + tile_rows - 1, a.keys - 1) / Keys;
    const int own = min(offset + row0 + kRows - 1, a.keys - 1) / Keys;

    const unsigned slot = turn % 2;
    s.q_full[slot].wait(turn / 2 % 2);
    const std::uint32_t q_rows = shared_address(s.q[slot][group]) + warp * 16 * 128;
    const QueryTile q(shared_address(s.q[slot][group]));
    // Blocks beyond these rows' diagonal belong to the tile's later rows.
    for (; n > own; --n, ++step) {
      const unsigned stage = step % Stages;
      s.k_full[stage].wait(parity(step));
      if (lane == 0) s.k_empty[stage].arrive();
      s.v_full[stage].wait(parity(step));
      if (lane == 0) s.v_empty[stage].arrive();
    }
    const Visible<Keys> visible(a, tile.batch, offset + row0 + warp * 16);
    float o[32], score[Keys / 2];
#pragma unroll
    for (int i = 0; i < 32; ++i) o[i] = 0;
    s.k_full[step % Stages].wait(parity(step));
    wgmma::fence();
    q.scores(score, wgmma::descriptor(shared_address(s.k[step % Stages])));
    wgmma::commit();

    float top[2], sum[2];
    const auto run = [&](auto soft) {
      attend<Shared, Keys, Stages>(s, a, q, visible, soft, o, score, n, low, step);
      for (int r = 0; r < 2; ++r) top[r] = soft.top[r], sum[r] = soft.sum[r];
    };
    if constexpr (UnitKeys) {
      const float2 tops = known_tops(q_rows, a.bound);
      const bool in_reach = tops.x <= kMost - kHeadroom && tops.y <= kMost - kHeadroom;
      if (named_barrier_any(1 + group, 128, !in_reach))
        run(RunningTop{});
      else
        run(KnownTop(tops));
    } else {
      run(RunningTop{});
    }

    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float total = sum[r];
      total += __shfl_xor_sync(0xFFFFFFFF, total, 1);
      total += __shfl_xor_sync(0xFFFFFFFF, total, 2);
      inverse[r] = total > 0 ? 1 / total : 0;
      const int row = row0 + warp * 16 + lane / 4 + 8 * r;
      if (lane % 4 == 0 && row < a.queries)
        a.lse[(std::int64_t(tile.batch) * a.heads + head) * a.queries + row] = log_sum(top[r], total);
    }
    // Each warp's 16 rows of Q become its rows of O, once no warp of the group reads Q any more.
    named_barrier(1 + group, 128);
    store_rows(q_rows, o, inverse[0], inverse[1]);
    fence_async();
    __syncwarp();
    if (lane == 0) {
      store_tile(map_o, s.q[slot][group] + warp * 16 * kDim, head, row0 + warp * 16, tile.batch);
      bulk_commit();
      bulk_wait_read();
      s.q_empty[slot].arrive();
    }
  }
  if (lane == 0) bulk_wait();
}

template <int Groups, int Keys, int Stages, bool UnitKeys>
__global__ void __launch_bounds__(Groups * 128 + 128, 1)
    forward_kernel(const __grid_constant__ CUtensorMap map_q, const __grid_constant__ CUtensorMap map_k,
                   const __grid_constant__ CUtensorMap map_v, const __grid_constant__ CUtensorMap map_o,
                   const __grid_constant__ ForwardArgs a, int tiles) {
  using Shared = ForwardShared<Groups, Keys, Stages>;
  extern __shared__ char raw[];
  Shared& s = *reinterpret_cast<Shared*>(raw + (-shared_address(raw) & 1023));
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) s.q_full[i].init(1), s.q_empty[i].init(Groups * 4);
    for (int i = 0; i < Stages; ++i) {
      s.k_full[i].init(1), s.k_empty[i].init(Groups * 4);
      s.v_full[i].init(1), s.v_empty[i].init(Groups * 4);
    }
    fence_barrier_init();
  }
  __syncthreads();
  // The compiler must see that a warpgroup takes one branch as a whole.
  const int role = __shfl_sync(0xFFFFFFFF, int(threadIdx.x) / 128, 0);
  if (role == Groups) {
    registers_down<32>();
    if (__shfl_sync(0xFFFFFFFF, int(threadIdx.x) / 32 % 4, 0) == 0)
      load_tiles<Shared, Keys, Stages>(s, a, &map_q, &map_k, &map_v, tiles);
  } else {
    registers_up<Groups == 4 ? 112 : Groups == 3 ? 160 : 240>();
    compute_tiles<Shared, Keys, Stages, UnitKeys>(s, a, &map_o, tiles, role);
  }
}

template <int Groups, int Keys, int Stages, bool UnitKeys>
cudaError_t launch(const AttentionShape& shape, const void* q, const void* k, const void* v,
                   const std::int32_t* segment, void* o, float* lse, cudaStream_t stream) {
  ForwardArgs a{};
  a.segment = segment, a.lse = lse;
  a.batch = shape.batch, a.queries = shape.queries, a.keys = shape.keys, a.heads = shape.heads;
  a.group = shape.heads / shape.kv_heads;
  a.pack = Groups % 2 == 0 && a.group % 2 == 0 ? 2 : 1;
  const int tile_rows = Groups * kRows / a.pack;
  a.row_tiles = (shape.queries + tile_rows - 1) / tile_rows;
  a.units = shape.batch * shape.heads / a.pack;
  a.chunk = 32;
  a.scale_log2 = shape.scale * kLog2E;
  // |k| <= sqrt(dim) up to bf16's rounding (2^-9) and that of the norms here: 1 % to spare.
  a.bound = 1.01F * std::sqrt(float(kDim)) * a.scale_log2;
  CUtensorMap maps[4];
  cudaError_t e = make_tile_map(maps[0], q, shape.batch, shape.queries, shape.heads, kRows);
  if (e == cudaSuccess) e = make_tile_map(maps[1], k, shape.batch, shape.keys, shape.kv_heads, Keys);
  if (e == cudaSuccess) e = make_tile_map(maps[2], v, shape.batch, shape.keys, shape.kv_heads, Keys);
  if (e == cudaSuccess) e = make_tile_map(maps[3], o, shape.batch, shape.queries, shape.heads, 16);
  constexpr int bytes = sizeof(ForwardShared<Groups, Keys, Stages>) + 1024;
  const auto kernel = forward_kernel<Groups, Keys, Stages, UnitKeys>;
  if (e == cudaSuccess) e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  int device = 0, processors = 0;
  if (e == cudaSuccess) e = cudaGetDevice(&device);
  if (e == cudaSuccess) e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (e != cudaSuccess) return e;
  const int tiles = a.row_tiles * a.units, blocks = tiles < processors ? tiles : processors;
  kernel<<<blocks, Groups * 128 + 128, bytes, stream>>>(maps[0], maps[1], maps[2], maps[3], a, tiles);
  return cudaGetLastError();
}

}  // namespace

cudaError_t attention_forward(const AttentionShape& shape, const void* q, const void* k, const void* v,
                              const std::int32_t* segment_start, void* o, float* lse, cudaStream_t stream) {
  if (shape.head_dim != kDim || shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 ||
      shape.queries > shape.keys)
    return cudaErrorInvalidValue;
  if (shape.batch == 0 || shape.queries == 0) return cudaSuccess;
  const auto form = shape.unit_keys ? launch<4, 64, 8, true> : launch<4, 64, 8, false>;
  return form(shape, q, k, v, segment_start, o, lse, stream);
}

}  // namespace fairway::ops::cuda
