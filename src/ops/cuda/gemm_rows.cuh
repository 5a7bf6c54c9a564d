#pragma once
// A product a w^T with a short sum (k <= 512) and many rows, whose result goes to memory through an epilogue
// of the caller's: linear_relu_squared.cuh, qkv_product.cuh.
//
// Since the sum is short, 128 columns of the weight stay in a block's shared memory while it goes through
// rows: per tile only `a` is loaded, half of what a block that loads both operands needs from the L2 cache.
// The 12 slices of a 1,536-column weight times 11 blocks fill the 132 multiprocessors of an H100.
// (Measured and dropped: pairs of blocks that load `a` for each other by multicast, 2.4 times slower.)
//
// One warp loads; warpgroups take the tiles of 64 rows in turn. A turn is the tile's products; then the next
// warpgroup's products hide this one's epilogue, which is about as long. Each output element is one sum in
// one order: repeats give the same bytes.
//
// An epilogue is a kernel parameter with a constant and two functions.
// - weight_by_columns: the weight is stored [k, n] instead of [n, k].
// - ahead(s, slice, row, warp), before the turn of a tile: starts loads, gives what finish wants of them.
// - finish(s, d, ahead, slice, row, warp, turn): the warp's 16 rows from `row` on, columns from 128 slice on;
//   `d` as wgmma.cuh says. It may use s.rows[warp] and s.rows_full[warp], whose phase has the parity `turn`.

#include "tma.cuh"
#include "wgmma.cuh"

namespace fairway::ops::cuda::rows {

inline constexpr int kRows = 64, kColumns = 128, kDepth = 64;  // of a tile; of a step of the sum
inline constexpr int kMostSteps = 8;
inline constexpr int kStepBytes = kRows * kDepth * 2, kWeightBytes = kColumns * kDepth * 2;

/// How blocks share the work.
struct Tiling {
  int steps = 0;      ///< k / 64
  int row_tiles = 0;  ///< tiles along m
  int slices = 0;     ///< n / 128; block b has slice b % slices
  int stride = 0;     ///< blocks of one slice: block b has row tiles b / slices, + stride, ...
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
template <bool ByColumns, int Stages, class S>
__device__ void load(S& s, const Tiling& w, const CUtensorMap* map_a, const CUtensorMap* map_w, int slice,
                     int first_tile) {
  s.weight_full.arrive_expect(w.steps * kWeightBytes);
  for (int k = 0; k < w.steps; ++k) {
    if constexpr (ByColumns) {  // stored [k, n]: two boxes of 64 columns
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

/// Factors of rows, scale * r[row], which a deferred norm leaves to the product.
struct RowFactors {
  const float* r = nullptr;  ///< null: none
  int rows = 0;
  float scale = 1;
  /// As loaded: a sum with them before the tile's products would wait for memory there.
  struct Two {
    float r[2];
  };
  /// Of a thread's two rows in a warp's 16 from `row` on.
  __device__ Two ahead(int row) const {
    Two two{{1, 1}};
    if (r == nullptr) return two;
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      const int at = min(row + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * upper, rows - 1);
      asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(two.r[upper]) : "l"(r + at));
    }
    return two;
  }
  __device__ float of(const Two& two, int upper) const { return r ? scale * two.r[upper] : 1.0F; }
  __device__ void multiply(float (&d)[64], const Two& two) const {
    if (r == nullptr) return;
    const float by[2] = {of(two, 0), of(two, 1)};
#pragma unroll
    for (int i = 0; i < 64; ++i) d[i] *= by[i / 2 % 2];
  }
};

/// One thread of a warp: starts the copy of the warp's 16 rows of `map`, columns 64 (head, head + 1), to
/// s.rows.
template <class S>
__device__ void load_rows(S& s, const CUtensorMap* map, int head, int row, int warp) {
  bulk_wait_read();  // the last tile's stores have left the place
  s.rows_full[warp].arrive_expect(sizeof(s.rows[warp]));
  for (int half = 0; half < 2; ++half)
    load_tile(s.rows[warp][half], map, s.rows_full[warp], head + half, row, 0);
}

/// The warp's 16 rows in s.rows, and the sums that lie at the same places, become f(pair, two sums, 0 or 1:
/// of the upper 8 rows), ready to be stored.
template <class S, class F>
__device__ void rewrite_rows(S& s, int warp, const float (&d)[64], const F& f) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t tile = shared_address(s.rows[warp][half]);
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      const std::uint32_t at = matrices_at(tile, j);
      const float* const v = d + 32 * half + 4 * j;
      std::uint32_t x[4];
      load_matrices(at, x);
      const std::uint32_t y[4] = {f(x[0], v, 0), f(x[1], v + 2, 1), f(x[2], v + 4, 0), f(x[3], v + 6, 1)};
      store_matrices(at, y[0], y[1], y[2], y[3]);
    }
  }
  fence_async();
  __syncwarp();
}

/// B of one step: 128 rows of 64, or 64 rows of two 64-column boxes, the second 8 KiB further.
template <bool ByColumns>
__device__ inline std::uint64_t weight_descriptor(std::uint32_t address) {
  if constexpr (!ByColumns) return wgmma::descriptor(address);
  // "Leading" distance: from 64 columns to the next 64 where B is stored with its columns contiguous.
  constexpr std::uint64_t field = 0x3FFFULL << 16, next_box = (kDepth * 128ULL >> 4) << 16;
  return (wgmma::descriptor(address) & ~field) | next_box;
}

/// d = the sum of one tile; `issued` is called when its last products are on their way.
template <bool ByColumns, int Stages, class S, class Issued>
__device__ void multiply(S& s, int steps, int first_step, float (&d)[64], const Issued& issued) {
  constexpr std::uint64_t next = ByColumns ? wgmma::next_rows : wgmma::next_columns;
  const auto release = [&](int stage) {
    if (threadIdx.x % 32 == 0) s.empty[stage].arrive();
  };
  Place<Stages> at(first_step);
  int before = 0;
  for (int k = 0; k < steps; ++k, at.next()) {
    s.full[at.stage].wait(at.parity);
    const std::uint64_t a = wgmma::descriptor(shared_address(s.a[at.stage]));
    const std::uint64_t b = weight_descriptor<ByColumns>(shared_address(s.weight[k]));
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < kDepth / 16; ++i)
      wgmma::product<0, ByColumns ? 1 : 0>(d, a + i * wgmma::next_columns, b + i * next, k > 0 || i > 0);
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
template <int Groups, int Stages, class S, class Epilogue>
__device__ void compute(S& s, const Tiling& w, const Epilogue& e, int slice, int first_tile, int group) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int tiles = (w.row_tiles - first_tile + w.stride - 1) / w.stride;
  float d[64];
  s.weight_full.wait(0);
  std::uint32_t turn = 0;
  for (int i = group; i < tiles; i += Groups, turn ^= 1) {
    const int row = (first_tile + i * w.stride) * kRows + warp % 4 * 16;
    const auto ahead = e.ahead(s, slice, row, warp);
    // Turns are more than good manners: a parity tells two phases apart, no more, so nobody may wait for a
    // step before the tile before has got all of its own. 128 threads wait here, 128 arrive.
    if (i > 0) named_barrier(1 + group, 256);
    multiply<Epilogue::weight_by_columns, Stages>(s, w.steps, i * w.steps, d, [&] {
      if (i + 1 < tiles) named_barrier_arrive(1 + (group + 1) % Groups, 256);
    });
    e.finish(s, d, ahead, slice, row, warp, turn);
  }
  if (threadIdx.x % 32 == 0) bulk_wait_read();
}

template <int Groups, int Stages, class Epilogue>
__global__ void __launch_bounds__(Groups * 128 + 128, 1)
    kernel(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_w,
           const __grid_constant__ Tiling w, const __grid_constant__ Epilogue e) {
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
    if (threadIdx.x == Groups * 128)
      load<Epilogue::weight_by_columns, Stages>(s, w, &map_a, &map_w, slice, first_tile);
    __syncwarp();
  } else {
    registers_up<Groups == 4 ? 112 : Groups == 3 ? 160 : 208>();
    compute<Groups, Stages>(s, w, e, slice, first_tile, role);
  }
}

/// a [m, k], weight [n, k] (or [k, n]); Groups warpgroups, Stages steps of `a` in flight.
template <int Groups, int Stages, class Epilogue>
cudaError_t launch(int m, int n, int k, const void* a, const void* weight, const Epilogue& e,
                   cudaStream_t stream) {
  if (m == 0) return cudaSuccess;
  Tiling w{.steps = k / kDepth, .row_tiles = (m + kRows - 1) / kRows, .slices = n / kColumns};
  int device = 0, processors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  if (k % kDepth != 0 || w.steps < 1 || w.steps > kMostSteps || n % kColumns != 0 || w.slices < 1)
    return cudaErrorInvalidValue;
  w.stride = processors / w.slices;
  if (w.stride > w.row_tiles) w.stride = w.row_tiles;  // every block has a tile
  if (w.stride < 1) w.stride = 1;
  CUtensorMap map_a, map_w;
  error = make_tile_map(map_a, a, 1, m, k / 64, kRows);
  if (error == cudaSuccess)
    error = Epilogue::weight_by_columns ? make_tile_map(map_w, weight, 1, k, n / 64, kDepth)
                                        : make_tile_map(map_w, weight, 1, n, k / 64, kColumns);
  const auto run = kernel<Groups, Stages, Epilogue>;
  constexpr int bytes = sizeof(Shared<Groups, Stages>) + 1024;
  static_assert(bytes <= 227 * 1024);
  if (error == cudaSuccess)
    error = cudaFuncSetAttribute(run, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  run<<<static_cast<unsigned>(w.slices * w.stride), Groups * 128 + 128, bytes, stream>>>(map_a, map_w, w, e);
  return cudaGetLastError();
}

}  // namespace fairway::ops::cuda::rows
