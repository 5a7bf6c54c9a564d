#pragma once
#include <cstdint>

/// Hopper's warpgroup matrix instructions on bf16 tiles of 64 columns (128-byte rows, 128-byte swizzle, as
/// the tensor copies of tma.cuh lay them down). Semantics: PTX ISA, "Asynchronous Warpgroup Level Matrix
/// Instructions".
///
/// Accumulator d of a thread (lane = 4 g + t of warp w): d[4 j + 0, 1] is row 16 w + g, columns 8 j + 2 t +
/// {0, 1}; d[4 j + 2, 3] the same columns of row 16 w + g + 8. An A operand in registers, packed pairs, holds
/// the same places of two neighbouring j: so a packed accumulator serves as A of the next product.
namespace fairway::ops::cuda::wgmma {

/// Descriptor of a tile whose rows are 128 bytes: groups of 8 rows follow each other every 1024 bytes. Serves
/// the operand that is contiguous along the summed dimension (advance 16 columns: 32 bytes) and the one
/// contiguous along its own 64 rows (advance 16 stored rows: 2048 bytes).
__device__ inline std::uint64_t descriptor(std::uint32_t shared_address) {
  constexpr std::uint64_t swizzle_128 = 1ULL << 62, eight_rows = (1024ULL >> 4) << 32, unused = 1ULL << 16;
  return swizzle_128 | eight_rows | unused | ((shared_address & 0x3FFFF) >> 4);
}
inline constexpr std::uint64_t next_columns = 32 >> 4;  ///< 16 columns further
inline constexpr std::uint64_t next_rows = 2048 >> 4;   ///< 16 stored rows further

/// Orders register writes before the products that read or add to them.
__device__ inline void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
__device__ inline void wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/// The compiler must not move reads of the accumulators above the wait, nor writes below the fence.
template <int N>
__device__ inline void pin(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int N>
__device__ inline void pin(std::uint32_t (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

// What the instructions below are written with: an asm statement takes neither arrays nor computed text.
#define FAIRWAY_SUMS_8(i)                                                                     \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define FAIRWAY_SUMS_32(i) \
  FAIRWAY_SUMS_8(i), FAIRWAY_SUMS_8(i + 8), FAIRWAY_SUMS_8(i + 16), FAIRWAY_SUMS_8(i + 24)
#define FAIRWAY_NAMES_32                                                    \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,  " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FAIRWAY_NAMES_64                                                                 \
  FAIRWAY_NAMES_32                                                                       \
  ",  %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,  " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FAIRWAY_PRODUCT(columns, add, sums)        \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " add ", 0;\n" \
  "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" sums "}, "

/// d[64 x 64] (+)= A[64 x 16] B[64 x 16]^T, both in shared memory; TA, TB: the operand is stored with its
/// 64/64 rows contiguous (transposed) instead of its 16 columns.
template <int TA, int TB>
__device__ inline void product(float (&d)[32], std::uint64_t a, std::uint64_t b, int add) {
  asm volatile(FAIRWAY_PRODUCT("64", "%34", FAIRWAY_NAMES_32) "%32, %33, p, 1, 1, %35, %36;\n}\n"
               : FAIRWAY_SUMS_32(0)
               : "l"(a), "l"(b), "r"(add), "n"(TA), "n"(TB));
}

/// d[64 x 128] (+)= A[64 x 16] B[128 x 16]^T, both in shared memory; TA, TB: the operand is stored with its
/// 64/128 rows contiguous (transposed) instead of its 16 columns.
template <int TA, int TB>
__device__ inline void product(float (&d)[64], std::uint64_t a, std::uint64_t b, int add) {
  asm volatile(FAIRWAY_PRODUCT("128", "%66", FAIRWAY_NAMES_64) "%64, %65, p, 1, 1, %67, %68;\n}\n"
               : FAIRWAY_SUMS_32(0), FAIRWAY_SUMS_32(32)
               : "l"(a), "l"(b), "r"(add), "n"(TA), "n"(TB));
}

/// d[64 x 64] (+)= A[64 x 16] B[64 x 16]^T, A in registers.
template <int TB>
__device__ inline void product(float (&d)[32], const std::uint32_t* a, std::uint64_t b, int add) {
  asm volatile(FAIRWAY_PRODUCT("64", "%37", FAIRWAY_NAMES_32) "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}\n"
               : FAIRWAY_SUMS_32(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TB));
}

/// d[64 x 128] (+)= A[64 x 16] B[128 x 16]^T, A in registers.
template <int TB>
__device__ inline void product(float (&d)[64], const std::uint32_t* a, std::uint64_t b, int add) {
  asm volatile(FAIRWAY_PRODUCT("128", "%69", FAIRWAY_NAMES_64) "{%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}\n"
               : FAIRWAY_SUMS_32(0), FAIRWAY_SUMS_32(32)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TB));
}

#undef FAIRWAY_SUMS_8
#undef FAIRWAY_SUMS_32
#undef FAIRWAY_NAMES_32
#undef FAIRWAY_NAMES_64
#undef FAIRWAY_PRODUCT

}  // namespace fairway::ops::cuda::wgmma
