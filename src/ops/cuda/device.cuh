#pragma once
// What kernels share: vectors of floats that are stored as fp32 or bf16, outputs that honour Write, warp
// sums, launch helpers.

#include "cuda/launch.h"

#include <cuda_bf16.h>

#include <initializer_list>

namespace fairway::ops::cuda {

inline constexpr unsigned all_lanes = 0xffffffffu;
inline constexpr int block_threads = 256, block_warps = block_threads / 32;

/// V consecutive elements, widened.
template <int V>
struct Floats {
  float v[V];
};

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void narrow(float x, float* to) { *to = x; }
__device__ inline void narrow(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }

/// Elements in one access of 16 bytes.
template <class T>
inline constexpr int wide = 16 / static_cast<int>(sizeof(T));

/// V is 1, or a whole number of 16-byte accesses (p is then aligned to 16 bytes), or 4 bf16 in one of 8.
template <int V, class T>
__device__ inline Floats<V> load(const T* p) {
  Floats<V> r;
  if constexpr (V == 1) {
    r.v[0] = widen(*p);
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int k = 0; k < V; k += 4) {
      const float4 q = *reinterpret_cast<const float4*>(p + k);
      r.v[k] = q.x, r.v[k + 1] = q.y, r.v[k + 2] = q.z, r.v[k + 3] = q.w;
    }
  } else if constexpr (V == 4) {
    const uint2 q = *reinterpret_cast<const uint2*>(p);
    r.v[0] = __uint_as_float(q.x << 16), r.v[1] = __uint_as_float(q.x & 0xffff0000u);
    r.v[2] = __uint_as_float(q.y << 16), r.v[3] = __uint_as_float(q.y & 0xffff0000u);
  } else {
    static_assert(V % 8 == 0 || V == 1);
#pragma unroll
    for (int k = 0; k < V; k += 8) {
      const uint4 q = *reinterpret_cast<const uint4*>(p + k);
      const unsigned words[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        r.v[k + 2 * j] = __uint_as_float(words[j] << 16);
        r.v[k + 2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u);
      }
    }
  }
  return r;
}

/// 16 bytes as they lie in memory. The loads of a row keep their order and stay in front of its sums
/// (volatile); nothing is read twice, so they leave the L1 cache alone.
__device__ inline uint4 fetch(const void* p) {
  uint4 q;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w)
               : "l"(p));
  return q;
}
/// What 16 bytes of T hold.
template <class T>
__device__ inline Floats<wide<T>> floats_of(const uint4& q) {
  Floats<wide<T>> r;
  const unsigned words[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if constexpr (sizeof(T) == 4) {
      r.v[j] = __uint_as_float(words[j]);
    } else {
      r.v[2 * j] = __uint_as_float(words[j] << 16);
      r.v[2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u);
    }
  }
  return r;
}

/// One access of 16 bytes. As one integer: the compiler may store the fields of a uint4 one by one.
__device__ inline void store_16(void* p, unsigned a, unsigned b, unsigned c, unsigned d) {
  using Half = std::uint64_t;
  using Whole = unsigned __int128;
  const Half low = a | static_cast<Half>(b) << 32, high = c | static_cast<Half>(d) << 32;
  *static_cast<Whole*>(p) = low | static_cast<Whole>(high) << 64;
}

template <int V, class T>
__device__ inline void store(T* p, const Floats<V>& x) {
  if constexpr (V == 1) {
    narrow(x.v[0], p);
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int k = 0; k < V; k += 4)
      store_16(p + k, __float_as_uint(x.v[k]), __float_as_uint(x.v[k + 1]), __float_as_uint(x.v[k + 2]),
               __float_as_uint(x.v[k + 3]));
  } else if constexpr (V == 4) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(x.v[0], x.v[1]);
    const __nv_bfloat162 high = __floats2bfloat162_rn(x.v[2], x.v[3]);
    *reinterpret_cast<uint2*>(p) =
        make_uint2(*reinterpret_cast<const unsigned*>(&low), *reinterpret_cast<const unsigned*>(&high));
  } else {
#pragma unroll
    for (int k = 0; k < V; k += 8) {
      unsigned words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(x.v[k + 2 * j], x.v[k + 2 * j + 1]);
        words[j] = *reinterpret_cast<const unsigned*>(&pair);
      }
      store_16(p + k, words[0], words[1], words[2], words[3]);
    }
  }
}

template <int V>
__device__ inline void operator+=(Floats<V>& sum, const Floats<V>& x) {
#pragma unroll
  for (int k = 0; k < V; ++k) sum.v[k] += x.v[k];
}

template <int V>
__device__ inline Floats<V> filled(float x) {
  Floats<V> r;
#pragma unroll
  for (int k = 0; k < V; ++k) r.v[k] = x;
  return r;
}

/// An output as kernels see it.
template <class T>
struct Out {
  T* p;
  bool add;
  __host__ __device__ explicit operator bool() const { return p != nullptr; }
  template <int V>
  __device__ void put(std::int64_t i, Floats<V> x) const {
    if (!p) return;
    if (add) x += load<V>(p + i);
    store<V>(p + i, x);
  }
  __device__ void put(std::int64_t i, float x) const { put<1>(i, Floats<1>{{x}}); }
};
template <class T>
Out<T> out(const Output& o) {
  return {static_cast<T*>(o.data), o.add};
}

/// Every lane gets the sum over `lanes` neighbouring lanes (a power of two): a butterfly, so the order is
/// fixed.
__device__ inline float lane_sum(float x, int lanes = 32) {
  for (int half = lanes / 2; half > 0; half /= 2) x += __shfl_xor_sync(all_lanes, x, half);
  return x;
}
__device__ inline float lane_max(float x) {
#pragma unroll
  for (int half = 16; half > 0; half /= 2) x = fmaxf(x, __shfl_xor_sync(all_lanes, x, half));
  return x;
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/// Notes the first index out of range (which of several is chance; that there was one is not).
__device__ inline void note_fault(Fault* fault, Check check, std::int64_t index, std::int64_t limit) {
  if (!fault || atomicCAS(&fault->taken, 0, 1) != 0) return;
  fault->check = static_cast<std::int32_t>(check);
  fault->index = static_cast<std::int32_t>(index);
  fault->limit = static_cast<std::int32_t>(limit);
}

/// row / length and the rest, in 32 bits: rows and lengths fit, and a 64-bit division costs as much as the
/// row's work.
struct Quotient {
  std::int64_t whole, rest;
  __device__ Quotient(std::int64_t row, std::int64_t length)
      : whole(static_cast<unsigned>(row) / static_cast<unsigned>(length)), rest(row - whole * length) {}
};

__device__ inline std::int64_t warp_row() {
  return static_cast<std::int64_t>(blockIdx.x) * block_warps + threadIdx.x / 32;
}

inline unsigned blocks_for(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}

/// Lanes for rows of `columns` elements taken V at a time: a power of two, at most a warp.
inline int lanes_for(int columns, int v) {
  int lanes = 1;
  while (lanes < 32 && lanes * v < columns) lanes *= 2;
  return lanes;
}

/// Can rows of `columns` elements be read V at a time?
inline bool fits(std::int64_t columns, int v, std::initializer_list<const void*> pointers) {
  if (columns % v != 0) return false;
  for (const void* p : pointers)
    if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) return false;
  return true;
}

template <int N>
struct Constant {
  static constexpr int value = N;
};
/// Calls f(Constant<V>{}) with the widest V that rows of `columns` elements of T allow.
template <class T, class F>
void with_width(std::int64_t columns, std::initializer_list<const void*> pointers, const F& f) {
  if (fits(columns, wide<T>, pointers))
    f(Constant<wide<T>>{});
  else
    f(Constant<1>{});
}

}  // namespace fairway::ops::cuda
