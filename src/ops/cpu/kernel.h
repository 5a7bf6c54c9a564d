#pragma once
// What kernels share beside vectors: typed access to their arguments, outputs that honour Write, fixed
// splits.

#include "cpu/fault.h"
#include "cpu/simd.h"
#include "fairway/ops/operator.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

/// Runs f(T{}) with T = double or float, as the view holds; refuses bf16.
template <class F>
[[gnu::always_inline]] inline void dispatch(const View& v, const F& f) {
  if (v.meta.dtype == DType::f64) return f(double{});
  if (v.meta.dtype != DType::f32) dtype_fault(v.meta.dtype);
  f(float{});
}

/// Input i, or null when it is absent. infer has checked the dtype.
template <class T>
[[gnu::always_inline]] inline const T* in(const KernelArgs& a, int i) {
  return static_cast<std::size_t>(i) < a.in.size()
             ? static_cast<const T*>(a.in[static_cast<std::size_t>(i)].data)
             : nullptr;
}

/// One output: skipped when unwanted, overwritten or added to.
template <class T>
struct Out {
  T* p = nullptr;
  bool add = false;

  explicit operator bool() const { return p != nullptr; }
  [[gnu::always_inline]] Out at(std::int64_t offset) const { return {p ? p + offset : nullptr, add}; }
  template <class Part>
  [[gnu::always_inline]] void put(std::int64_t i, Part part, const Vec<T>& v) const {
    if (!p) return;
    if (add)
      store(p + i, part, load(p + i, part) + v);
    else
      store(p + i, part, v);
  }
  [[gnu::always_inline]] void put(std::int64_t i, T v) const {
    if (p) p[i] = add ? p[i] + v : v;
  }
};
template <class T>
[[gnu::always_inline]] inline Out<T> out(const KernelArgs& a, int i) {
  const auto k = static_cast<std::size_t>(i);
  if (k >= a.out.size()) return {};
  return {static_cast<T*>(a.out[k].data), a.write[k] == Write::add};
}

/// Calls f(i) for each i in [0, count) on the pool.
template <class F>
inline void parallel(const KernelArgs& a, std::int64_t count, const F& f) {
  struct Body {
    static void call(void* data, std::int64_t i) { (*static_cast<const F*>(data))(i); }
  };
  parallel_for(a.context.pool, count, &Body::call, const_cast<F*>(&f));
}

[[gnu::always_inline]] inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// Calls f(first, last) for parts of [0, n) that n and `size` alone give.
template <class F>
inline void parallel_ranges(const KernelArgs& a, std::int64_t n, std::int64_t size, const F& f) {
  parallel(a, (n + size - 1) / size, [&](std::int64_t c) { f(c * size, smaller((c + 1) * size, n)); });
}

/// Elements that are worth handing to a thread.
inline constexpr std::int64_t grain = 16384;

/// Rows of `columns` elements that are worth handing to a thread.
inline std::int64_t grain_rows(std::int64_t columns) {
  return columns >= grain ? 1 : grain / (columns > 0 ? columns : 1);
}

/// Calls f(row) for each of `rows` rows, whose work is that of `columns` elements.
template <class F>
inline void parallel_rows(const KernelArgs& a, std::int64_t rows, std::int64_t columns, const F& f) {
  parallel_ranges(a, rows, grain_rows(columns), [&](std::int64_t first, std::int64_t last) {
    for (auto row = first; row < last; ++row) f(row);
  });
}

/// Calls f(i, part) for the vectors of n elements, `size` of them for a thread at a time.
template <class T, class F>
inline void parallel_vectors(const KernelArgs& a, std::int64_t n, std::int64_t size, const F& f) {
  parallel_ranges(a, n, size, [&](std::int64_t first, std::int64_t last) {
    for_vectors<T>(last - first, [&](std::int64_t j, auto part) { f(first + j, part); });
  });
}

/// y[i] = from[i], i < n; zeros where `from` is null.
template <class T>
inline void put_row(const Out<T>& y, const T* from, std::int64_t n) {
  for_vectors<T>(
      n, [&](std::int64_t i, auto part) { y.put(i, part, from ? load(from + i, part) : splat<T>(0)); });
}

/// 1 / sqrt(x).
template <class T>
[[gnu::always_inline]] inline T inverse_root(T x) {
  if constexpr (sizeof(T) == 4)
    return 1 / __builtin_sqrtf(x);
  else
    return 1 / __builtin_sqrt(x);
}

/// 1 / sqrt(mean of squares + eps) of the row whose vectors value(i, part) gives (zeros past the end).
template <class T, class F>
[[gnu::always_inline]] inline T inverse_rms(std::int64_t columns, T eps, const F& value) {
  auto squares = splat<T>(0);
  for_vectors<T>(columns, [&](std::int64_t i, auto part) {
    const auto v = value(i, part);
    squares = fma(v, v, squares);
  });
  return inverse_root(sum(squares) / static_cast<T>(columns) + eps);
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
