#pragma once
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

/// The copy engine, its barriers and the small instructions around them (PTX ISA: mbarrier, cp.async.bulk,
/// stmatrix).
namespace fairway::ops::cuda {

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// A barrier in shared memory: completes a phase when `arrivals` threads arrived and all announced bytes
/// landed.
struct Barrier {
  std::uint64_t word;
  __device__ void init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&word)), "r"(arrivals)
                 : "memory");
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&word)) : "memory");
  }
  __device__ void arrive_expect(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&word)),
                 "r"(bytes)
                 : "memory");
  }
#ifdef FAIRWAY_WATCH_BARRIERS
  __device__ bool wait_watched(std::uint32_t parity) {
    const long long start = clock64();
    std::uint32_t over = 0;
    while (!over && clock64() - start < 2'000'000'000)
      asm volatile(
          "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n}\n"
          : "=r"(over)
          : "r"(shared_address(&word)), "r"(parity)
          : "memory");
    return over;
  }
#endif
  /// Waits for the end of the phase with this parity (a fresh barrier is in phase 0; phase -1, parity 1, is
  /// over).
  __device__ void wait(std::uint32_t parity) {
#ifdef FAIRWAY_WATCH_BARRIERS  // for checking kernels: a lost arrival ends in a trap, not in a hang
    if (!wait_watched(parity)) __trap();
    return;
#endif
    asm volatile(
        "{\n.reg .pred p;\nAGAIN:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
        "@p bra DONE;\nbra AGAIN;\nDONE:\n}\n" ::"r"(shared_address(&word)),
        "r"(parity)
        : "memory");
  }
};

__device__ inline void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/// Makes ordinary writes to shared memory visible to the copy engine and the matrix units.
__device__ inline void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void fence_async_all() { asm volatile("fence.proxy.async;" ::: "memory"); }
__device__ inline void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/// The same; whether any of the threads says so.
__device__ inline bool named_barrier_any(int id, int threads, bool mine) {
  int any;
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.ne.b32 p, %3, 0;\nbarrier.cta.red.or.pred q, %1, %2, p;\n"
      "selp.b32 %0, 1, 0, q;\n}\n"
      : "=r"(any)
      : "r"(id), "r"(threads), "r"(int(mine))
      : "memory");
  return any != 0;
}
__device__ inline void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Copies one box of a [batch, rows, heads, 64] tensor to shared memory; rows outside the tensor read as
/// zero.
__device__ inline void load_tile(void* to, const CUtensorMap* map, Barrier& done, int head, int row,
                                 int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6}], [%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(&done.word)), "r"(0), "r"(head), "r"(row), "r"(batch)
      : "memory");
}
/// The reverse; rows outside the tensor are not written. Belongs to the thread's current bulk group.
__device__ inline void store_tile(const CUtensorMap* map, const void* from, int head, int row, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
      "r"(shared_address(from)), "r"(0), "r"(head), "r"(row), "r"(batch)
      : "memory");
}
/// Adds to the tensor instead.
__device__ inline void add_tile(const CUtensorMap* map, const void* from, int head, int row, int batch) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3, %4, %5}], "
      "[%1];" ::"l"(map),
      "r"(shared_address(from)), "r"(0), "r"(head), "r"(row), "r"(batch)
      : "memory");
}
/// Copies one box of an array of words, the one that starts at word `first`. (The copy without a map does the
/// same, but the sanitizer's race check takes it for a write of the thread that issues it.)
__device__ inline void load_words(void* to, const CUtensorMap* map, Barrier& done, int first) {
  asm volatile(
      "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(&done.word)), "r"(first)
      : "memory");
}
__device__ inline void store_bytes(float* to, const void* from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
               "r"(shared_address(from)), "r"(bytes)
               : "memory");
}
__device__ inline void add_floats(float* to, const void* from, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to),
               "r"(shared_address(from)), "r"(bytes)
               : "memory");
}
__device__ inline void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Until all but the thread's last N groups have read shared memory.
template <int N>
__device__ inline void bulk_wait_read_but() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}
__device__ inline void bulk_wait_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
__device__ inline void bulk_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

__device__ inline int load_acquire(const int* p) {
  int v;
  asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ inline void store_release(int* p, int v) {
  asm volatile("st.release.gpu.global.b32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ inline void add_release(int* p, int v) {
  asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}

/// 2^x by the special function unit (denormals to zero).
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// Two floats to one register of bf16, the first in the low half.
__device__ inline std::uint32_t pack(float low, float high) {
  std::uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
/// Four 8x8 matrices of packed pairs to shared memory; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void store_matrices(std::uint32_t address, std::uint32_t a, std::uint32_t b,
                                      std::uint32_t c, std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}
__device__ inline void load_shared(std::uint32_t address, std::uint32_t (&r)[4]) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrices(std::uint32_t address, std::uint32_t* r) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
template <int N>
__device__ inline void registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ inline void registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/// Writes a warp's 16 x 64 accumulator rows, times `factor` per row half, as bf16 into a swizzled tile of
/// 128-byte rows; `tile` is the first of the 16 rows (1024-byte aligned modulo 2048).
__device__ inline void store_rows(std::uint32_t tile, const float (&d)[32], float factor_low,
                                  float factor_high) {
  const int lane = threadIdx.x % 32, row = lane % 8 + (lane / 8 % 2) * 8;
#pragma unroll
  for (int j = 0; j < 8; j += 2) {
    const int chunk = j + lane / 16;
    store_matrices(tile + row * 128 + ((chunk ^ (row % 8)) << 4),
                   pack(d[4 * j] * factor_low, d[4 * j + 1] * factor_low),
                   pack(d[4 * j + 2] * factor_high, d[4 * j + 3] * factor_high),
                   pack(d[4 * j + 4] * factor_low, d[4 * j + 5] * factor_low),
                   pack(d[4 * j + 6] * factor_high, d[4 * j + 7] * factor_high));
  }
}

/// Map of a dense [batch, rows, heads, 64] bf16 tensor with boxes of `box_rows` rows of one head, 128-byte
/// swizzle.
cudaError_t make_tile_map(CUtensorMap& map, const void* base, int batch, int rows, int heads, int box_rows);
/// Map of an array of 32-bit words with boxes of `box` of them, at most 256.
cudaError_t make_word_map(CUtensorMap& map, const void* base, std::int64_t words, int box);

}  // namespace fairway::ops::cuda
