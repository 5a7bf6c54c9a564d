#pragma once
// What kernels share beside vectors: typed access to their arguments, outputs that honour Write, fixed
// chunks.

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

/// Calls f(first, last) for fixed pieces of [0, n), cut by n and `size` alone.
template <class F>
inline void parallel_ranges(const KernelArgs& a, std::int64_t n, std::int64_t size, const F& f) {
  parallel(a, (n + size - 1) / size, [&](std::int64_t c) {
    const auto first = c * size, last = first + size < n ? first + size : n;
    f(first, last);
  });
}

/// Elements that are worth handing to a thread.
inline constexpr std::int64_t grain = 16384;

/// Rows of `columns` elements that are worth handing to a thread.
inline std::int64_t grain_rows(std::int64_t columns) {
  return columns >= grain ? 1 : grain / (columns > 0 ? columns : 1);
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
