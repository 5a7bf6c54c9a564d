#pragma once
// What attention multiplies: its operands as they are, or rounded to bf16 where the products are bf16 and the
// processor multiplies it. E is the type of the operands, T that of everything else.

#include "attention_tiling.h"
#include "cpu/gemm.h"
#include "cpu/kernel.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

using tensor::bf16;

template <class E, class T>
inline constexpr bool rounded = !std::is_same_v<E, T>;

/// [B, S, heads, dh] in some order of its axes; the last one is dense.
template <class E>
struct Heads {
  const E* data = nullptr;
  std::int64_t batch_stride = 0, head_stride = 0, row_stride = 0;
  const E* at(std::int64_t b, std::int64_t position, std::int64_t head) const {
    return data + b * batch_stride + head * head_stride + position * row_stride;
  }
};

template <int B>
[[gnu::always_inline]] inline void store_low_halves(bf16* p, const Block<std::uint32_t, B>& v) {
  if constexpr (B > native_bytes) {
    store_low_halves(p, v.lo);
    store_low_halves(p + B / 8, v.hi);
  } else {
    const auto low = __builtin_convertvector(v.v, Native<std::uint16_t, B / 2>);
    __builtin_memcpy(static_cast<void*>(p), &low, sizeof low);
  }
}
/// Sixteen floats to bf16, ties to even; NaN stays NaN (as tensor::to_bf16).
[[gnu::always_inline]] inline Vec<std::uint32_t> rounded_halves(const Vec<float>& x) {
  const auto bits = bits_as<std::uint32_t>(x), high = bits >> 16;
  const auto up = (bits + splat<std::uint32_t>(0x7fff) + (high & splat<std::uint32_t>(1))) >> 16;
  const auto nan = bits_as<std::int32_t>(abs(x)) > splat<std::int32_t>(0x7f800000);
  return select(nan, high | splat<std::uint32_t>(0x40), up);
}
[[gnu::always_inline]] inline void store_rounded(bf16* p, const Vec<float>& x) {
  store_low_halves(p, rounded_halves(x));
}
/// The value that a product with E sees.
template <class E, class T>
[[gnu::always_inline]] inline Vec<T> seen_as(const Vec<T>& x) {
  if constexpr (rounded<E, T>)
    return bits_as<float>(rounded_halves(x) << 16);
  else
    return x;
}

/// a . b with b as products see it.
template <class E, class T>
inline T dot_seen(const T* a, const T* b, std::int64_t n) {
  auto total = splat<T>(0);
  for_vectors<T>(n, [&](std::int64_t j, auto part) {
    total = fma(load(a + j, part), seen_as<E>(load(b + j, part)), total);
  });
  return sum(total);
}

/// `from` [B, S, heads, dh] for products with E: itself, or rounded to `to`, heads outermost, so that the
/// rows of one head lie close (a quarter of the product's time with far rows).
template <class E, class T>
inline Heads<E> operand(const KernelArgs& a, const T* from, const Shape& shape, E* to) {
  const std::int64_t positions = shape[1], heads = shape[2], dh = shape[3], width = heads * dh;
  if constexpr (rounded<E, T>) {
    parallel_ranges(a, shape[0] * positions, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t head = 0; head < heads; ++head)
        for (std::int64_t row = begin; row < end; ++row) {
          const std::int64_t b = row / positions;
          const T* source = from + row * width + head * dh;
          E* target = to + ((b * heads + head) * positions + row - b * positions) * dh;
          std::int64_t j = 0;
          for (; j + lanes<T> <= dh; j += lanes<T>) store_rounded(target + j, load(source + j));
          for (; j < dh; ++j) target[j] = tensor::to_bf16(source[j]);
        }
    });
    return {to, positions * width, positions * dh, dh};
  } else {
    return {from, positions * width, dh, width};
  }
}

/// Leading dimension of a block of scores seen as an operand.
template <class E, class T>
inline constexpr std::int64_t operand_stride(std::int64_t ld) {
  return ld * static_cast<std::int64_t>(sizeof(T) / sizeof(E));
}

/// A block of scores [rows, columns] for products with E: itself, or each row rounded to its own front. `ld`
/// is a multiple of a vector.
template <class E, class T>
inline const E* score_operand(T* scores, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  if constexpr (rounded<E, T>) {
    E* front = reinterpret_cast<E*>(scores);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t j = 0; j < columns; j += lanes<T>)
        store_rounded(front + r * operand_stride<E, T>(ld) + j, load(scores + r * ld + j));
    return front;
  } else {
    return scores;
  }
}

/// c = op(a) op(b), or added to c.
template <class T>
inline void multiply(const GemmShape& shape, const T* a, const T* b, bool add, T* c) {
  gemm(shape, T(1), a, b, add ? T(1) : T(0), c);
}
inline void multiply(const GemmShape& shape, const bf16* a, const bf16* b, bool add, float* c) {
  gemm(shape, a, b, add, c);
}

/// Runs f(T{}, E{}): double, float, or float with bf16 operands. Without bf16 in the processor rounding would
/// only cost time, so that attention stays fp32 there.
template <class F>
inline void dispatch_operands(const KernelArgs& a, const F& f) {
  if (a.in[0].dtype() == DType::bf16) dtype_fault(DType::bf16);
  if (a.in[0].dtype() == DType::f64)
    f(double{}, double{});
  else if (a.context.products == DType::bf16 && has_bf16_gemm())
    f(float{}, bf16{});
  else
    f(float{}, float{});
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
