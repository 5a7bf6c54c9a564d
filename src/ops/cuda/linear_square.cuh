#pragma once
// The product kernel of linear_square.h.
//
// The sum is short (k <= 512), so 128 columns of the weight stay in a block's shared memory while it goes
// through rows: per tile only `a` is loaded, half of what a block that loads both operands needs from the L2
// cache. The 12 slices of a 1,536-column weight times 11 blocks fill the 132 multiprocessors of an H100.
// (Measured and dropped: pairs of blocks that load `a` for each other by multicast, 2.4 times slower.)
//
// One warp loads; warpgroups take the tiles of 64 rows in turn. A turn is the tile's products; then the next
// warpgroup's products hide this one's epilogue, which is about as long. Each output element is one sum in
// one order: repeats give the same bytes.

#include "linear_square.h"
#include "tma.cuh"
#include "wgmma.cuh"

namespace fairway::ops::cuda::square {

inline constexpr int kRows = 64, kColumns = 128, kDepth = 64;  // of a tile; of a step of the sum
inline constexpr int kMostSteps = 8;
inline constexpr int kStepBytes = kRows * kDepth * 2, kWeightBytes = kColumns * kDepth * 2;

struct Work {
  int steps = 0;      ///< k / 64
  int row_tiles = 0;  ///< tiles along m
  int slices = 0;     ///< n / 128; block b has slice b % slices
  int stride = 0;     ///< blocks of one slice: block b has row tiles b / slices, + stride, ...
  float slope = 0;
  bool store_h = true, store_act = true;  ///< forward
  bool add = false;                       ///< backward
};

template <int Groups, int Stages>
struct Shared {
  alignas(1024) __nv_bfloat16 weight[kMostSteps][kColumns * kDepth];
  alignas(1024) __nv_bfloat16 a[Stages][kRows * kDepth];
  /// Per warp its 16 rows of a tile, in halves of 64 columns.
  alignas(1024) __nv_bfloat16 rows[Groups * 4][2][16 * 64];
  Barrier weight_full, full[Stages], empty[Stages], rows_full[Groups * 4];
};

/// Place in the ring of stages.
template <int Stages>
struct Place {
  int stage;
  std::uint32_t parity;
  explicit __device__ Place(int step)
      : stage(step % Stages), parity(static_cast<std::uint32_t>(step / Stages % 2)) {}
  __device__ void next() {
    if (++stage == Stages) stage = 0, parity ^= 1;
  }
};

/// One thread: the slice of the weight, then `a` for all tiles.
template <bool Backward, int Stages, class S>
__device__ void load(S& s, const Work& w, const CUtensorMap* map_a, const CUtensorMap* map_w, int slice,
                     int first_tile) {
  s.weight_full.arrive_expect(w.steps * kWeightBytes);
  for (int k = 0; k < w.steps; ++k) {
    if constexpr (Backward) {  // stored [k, n]: two boxes of 64 columns
      load_tile(s.weight[k], map_w, s.weight_full, 2 * slice, k * kDepth, 0);
      load_tile(s.weight[k] + kDepth * 64, map_w, s.weight_full, 2 * slice + 1, k * kDepth, 0);
    } else {  // stored [n, k]
      load_tile(s.weight[k], map_w, s.weight_full, k, slice * kColumns, 0);
    }
  }
  Place<Stages> at(0);
  for (int tile = first_tile; tile < w.row_tiles; tile += w.stride)
    for (int k = 0; k < w.steps; ++k, at.next()) {
      s.empty[at.stage].wait(at.parity ^ 1);
      s.full[at.stage].arrive_expect(kStepBytes);
      load_tile(s.a[at.stage], map_a, s.full[at.stage], k, tile * kRows, 0);
    }
}

/// Where this lane's row of four 8x8 matrices starts: 16 rows, chunks j and j + 1 of 8 columns (store_rows).
__device__ inline std::uint32_t matrices_at(std::uint32_t half, int j) {
  const int lane = threadIdx.x % 32, row = lane % 16;
  return half + row * 128 + (((j + lane / 16) ^ (row % 8)) << 4);
}
__device__ inline float low(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high(std::uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000U); }
__device__ inline float square(float h, float slope) {
  const float z = h > 0 ? h : slope * h;
  return z * z;
}

/// Rounded sums, then the activation of what was rounded: act is a function of the h that backward sees.
template <class S>
__device__ void finish_forward(S& s, const Work& w, const float (&d)[64], const CUtensorMap* map_h,
                               const CUtensorMap* map_act, int slice, int row, int warp) {
  const bool leader = threadIdx.x % 32 == 0;
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const int half = part % 2;
    const bool activated = part >= 2;
    if (!(activated ? w.store_act : w.store_h)) continue;
    // All stores but the last have left shared memory: also the one from this half.
    if (leader) bulk_wait_read_but<1>();
    __syncwarp();
    const auto words = [&](int i) {
      const std::uint32_t h = pack(d[32 * half + i], d[32 * half + i + 1]);
      return activated ? pack(square(low(h), w.slope), square(high(h), w.slope)) : h;
    };
    const std::uint32_t to = shared_address(s.rows[warp][half]);
#pragma unroll
    for (int j = 0; j < 8; j += 2)
      store_matrices(matrices_at(to, j), words(4 * j), words(4 * j + 2), words(4 * j + 4), words(4 * j + 6));
    fence_async();
    __syncwarp();
    if (leader) {
      store_tile(activated ? map_act : map_h, s.rows[warp][half], 2 * slice + half, row, 0);
      bulk_commit();
    }
  }
}

/// The tile of h becomes the tile of dh in its place.
template <class S>
__device__ void finish_backward(S& s, const Work& w, const float (&d)[64], const CUtensorMap* map_dh,
                                int slice, int row, int warp) {
  const float below = 2 * w.slope * w.slope;
  const auto times_slope = [&](std::uint32_t h, float d_low, float d_high) {
    return pack((low(h) > 0 ? 2.0F : below) * low(h) * d_low,
                (high(h) > 0 ? 2.0F : below) * high(h) * d_high);
  };
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t tile = shared_address(s.rows[warp][half]);
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      const std::uint32_t at = matrices_at(tile, j);
      const float* const v = d + 32 * half + 4 * j;
      std::uint32_t h[4];
      load_matrices(at, h);
      store_matrices(at, times_slope(h[0], v[0], v[1]), times_slope(h[1], v[2], v[3]),
                     times_slope(h[2], v[4], v[5]), times_slope(h[3], v[6], v[7]));
    }
  }
  fence_async();
  __syncwarp();
  if (threadIdx.x % 32 != 0) return;
  for (int half = 0; half < 2; ++half) {
    if (w.add)
      add_tile(map_dh, s.rows[warp][half], 2 * slice + half, row, 0);
    else
      store_tile(map_dh, s.rows[warp][half], 2 * slice + half, row, 0);
  }
  bulk_commit();
}

/// B of one step: 128 rows of 64, or 64 rows of two 64-column boxes, the second 8 KiB further.
template <bool Backward>
__device__ inline std::uint64_t weight_descriptor(std::uint32_t address) {
  if constexpr (!Backward) return wgmma::descriptor(address);
  // "Leading" distance: from 64 columns to the next 64 where B is stored with its columns contiguous.
  constexpr std::uint64_t field = 0x3FFFULL << 16, next_box = (kDepth * 128ULL >> 4) << 16;
  return (wgmma::descriptor(address) & ~field) | next_box;
}

/// d = the sum of one tile; `issued` is called when its last products are on their way.
template <bool Backward, int Stages, class S, class Issued>
__device__ void multiply(S& s, int steps, int first_step, float (&d)[64], const Issued& issued) {
  constexpr std::uint64_t next = Backward ? wgmma::next_rows : wgmma::next_columns;
  const auto release = [&](int stage) {
    if (threadIdx.x % 32 == 0) s.empty[stage].arrive();
  };
  Place<Stages> at(first_step);
  int before = 0;
  for (int k = 0; k < steps; ++k, at.next()) {
    s.full[at.stage].wait(at.parity);
    const std::uint64_t a = wgmma::descriptor(shared_address(s.a[at.stage]));
    const std::uint64_t b = weight_descriptor<Backward>(shared_address(s.weight[k]));
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < kDepth / 16; ++i)
      wgmma::product<0, Backward ? 1 : 0>(d, a + i * wgmma::next_columns, b + i * next, k > 0 || i > 0);
    wgmma::commit();
    wgmma::wait<1>();
    if (k > 0) release(before);
    before = at.stage;
  }
  issued();
  wgmma::wait<0>();
  wgmma::pin(d);
  release(before);
}

/// One warpgroup: every Groups-th tile of the block.
template <bool Backward, int Groups, int Stages, class S>
__device__ void compute(S& s, const Work& w, const CUtensorMap* map_h, const CUtensorMap* map_out, int slice,
                        int first_tile, int group) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = threadIdx.x % 32;
  const int tiles = (w.row_tiles - first_tile + w.stride - 1) / w.stride;
  float d[64];
  s.weight_full.wait(0);
  std::uint32_t turn = 0;
  for (int i = group; i < tiles; i += Groups, turn ^= 1) {
    const int row = (first_tile + i * w.stride) * kRows + warp % 4 * 16;
    if constexpr (Backward) {
      if (lane == 0) {
        bulk_wait_read();
        s.rows_full[warp].arrive_expect(sizeof(s.rows[warp]));
        for (int half = 0; half < 2; ++half)
          load_tile(s.rows[warp][half], map_h, s.rows_full[warp], 2 * slice + half, row, 0);
      }
      __syncwarp();
    }
    // Turns are more than good manners: a parity tells two phases apart, no more, so nobody may wait for a
    // step before the tile before has got all of its own. 128 threads wait here, 128 arrive.
    if (i > 0) named_barrier(1 + group, 256);
    multiply<Backward, Stages>(s, w.steps, i * w.steps, d, [&] {
      if (i + 1 < tiles) named_barrier_arrive(1 + (group + 1) % Groups, 256);
    });
    if constexpr (Backward) {
      s.rows_full[warp].wait(turn);
      finish_backward(s, w, d, map_out, slice, row, warp);
    } else {
      finish_forward(s, w, d, map_h, map_out, slice, row, warp);
    }
  }
  if (lane == 0) bulk_wait_read();
}

template <bool Backward, int Groups, int Stages>
__global__ void __launch_bounds__(Groups * 128 + 128, 1)
    kernel(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_w,
           const __grid_constant__ CUtensorMap map_h, const __grid_constant__ CUtensorMap map_out,
           const __grid_constant__ Work w) {
  using S = Shared<Groups, Stages>;
  extern __shared__ char raw[];
  S& s = *reinterpret_cast<S*>(raw + (-shared_address(raw) & 1023));
  if (threadIdx.x == 0) {
    s.weight_full.init(1);
    for (int i = 0; i < Stages; ++i) s.full[i].init(1), s.empty[i].init(4);
    for (int i = 0; i < Groups * 4; ++i) s.rows_full[i].init(1);
    fence_barrier_init();
  }
  __syncthreads();
  const int slice = static_cast<int>(blockIdx.x) % w.slices, first_tile = blockIdx.x / w.slices;
  // The compiler must see that a warpgroup takes one branch as a whole.
  const int role = __shfl_sync(0xFFFFFFFF, int(threadIdx.x) / 128, 0);
  if (role == Groups) {
    registers_down<32>();
    if (threadIdx.x == Groups * 128) load<Backward, Stages>(s, w, &map_a, &map_w, slice, first_tile);
    __syncwarp();
  } else {
    registers_up<Groups == 4 ? 112 : Groups == 3 ? 160 : 208>();
    compute<Backward, Groups, Stages>(s, w, &map_h, &map_out, slice, first_tile, role);
  }
}

/// Groups warpgroups, Stages steps of `a` in flight.
template <bool Backward, int Groups, int Stages>
cudaError_t launch(const SquareShape& shape, const void* a, const void* weight, const void* h, void* out,
                   bool add, cudaStream_t stream) {
  if (shape.m == 0) return cudaSuccess;
  Work w{.steps = shape.k / kDepth,
         .row_tiles = (shape.m + kRows - 1) / kRows,
         .slices = shape.n / kColumns,
         .slope = shape.slope,
         .store_h = h != nullptr,
         .store_act = out != nullptr,
         .add = add};
  int device = 0, processors = 0;
  cudaError_t e = cudaGetDevice(&device);
  if (e == cudaSuccess) e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (e != cudaSuccess) return e;
  if (shape.k % kDepth != 0 || w.steps < 1 || w.steps > kMostSteps || shape.n % kColumns != 0 || w.slices < 1)
    return cudaErrorInvalidValue;
  w.stride = processors / w.slices;
  if (w.stride > w.row_tiles) w.stride = w.row_tiles;  // every block has a tile
  if (w.stride < 1) w.stride = 1;
  CUtensorMap maps[4];
  e = make_tile_map(maps[0], a, 1, shape.m, shape.k / 64, kRows);
  if (e == cudaSuccess)
    e = Backward ? make_tile_map(maps[1], weight, 1, shape.k, shape.n / 64, kDepth)
                 : make_tile_map(maps[1], weight, 1, shape.n, shape.k / 64, kColumns);
  const void* const either = h ? h : out;  // a map needs an address, also when nothing is stored there
  if (e == cudaSuccess) e = make_tile_map(maps[2], either, 1, shape.m, shape.n / 64, 16);
  if (e == cudaSuccess) e = make_tile_map(maps[3], out ? out : either, 1, shape.m, shape.n / 64, 16);
  const auto run = kernel<Backward, Groups, Stages>;
  constexpr int bytes = sizeof(Shared<Groups, Stages>) + 1024;
  static_assert(bytes <= 227 * 1024);
  if (e == cudaSuccess) e = cudaFuncSetAttribute(run, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (e != cudaSuccess) return e;
  run<<<static_cast<unsigned>(w.slices * w.stride), Groups * 128 + 128, bytes, stream>>>(maps[0], maps[1],
                                                                                         maps[2], maps[3], w);
  return cudaGetLastError();
}

}  // namespace fairway::ops::cuda::square
