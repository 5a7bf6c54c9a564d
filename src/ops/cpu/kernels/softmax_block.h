#pragma once
// Element-wise work on one row of a block of attention scores. Rows are padded to whole vectors, so that
// masks are filled in and every loop runs over whole vectors.

#include "cpu/kernel.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

/// Columns [lo, hi) that a row sees, widened to whole vectors [from, to).
struct VisibleSpan {
  std::int64_t lo = 0, hi = 0, from = 0, to = 0;
};
template <class T>
inline VisibleSpan visible_span(std::int64_t lo, std::int64_t hi) {
  constexpr std::int64_t n = lanes<T>;
  if (hi <= lo) return {};
  return {lo, hi, lo / n * n, (hi + n - 1) / n * n};
}

/// The columns that widening added hold `value`.
template <class T>
inline void fill_edges(T* row, const VisibleSpan& s, T value) {
  for (std::int64_t j = s.from; j < s.lo; ++j) row[j] = value;
  for (std::int64_t j = s.hi; j < s.to; ++j) row[j] = value;
}
template <class T>
inline void zero_outside(T* row, const VisibleSpan& s, std::int64_t columns) {
  for (std::int64_t j = 0; j < s.from; j += lanes<T>) store(row + j, splat<T>(0));
  for (std::int64_t j = s.to; j < columns; j += lanes<T>) store(row + j, splat<T>(0));
}

template <class T>
inline T row_maximum(const T* row, const VisibleSpan& s) {
  auto most = load(row + s.from);
  for (std::int64_t j = s.from + lanes<T>; j < s.to; j += lanes<T>) most = max(most, load(row + j));
  return max_of(most);
}

/// row = exp(scale row - shift) inside the span; returns the sum.
template <class T>
inline T exponentials(T* row, const VisibleSpan& s, T scale, T shift) {
  const auto factor = splat<T>(scale), minus = splat<T>(-shift);
  auto total = splat<T>(0);
  for (std::int64_t j = s.from; j < s.to; j += lanes<T>) {
    const auto p = exp(fma(load(row + j), factor, minus));
    store(row + j, p);
    total = total + p;
  }
  return sum(total);
}

/// p = exp(scale p - lse), ds = scale p . (ds - delta) inside the span; `ds` may be null.
template <class T>
inline void rebuild_row(T* p, T* ds, const VisibleSpan& s, T scale, T lse, T delta) {
  const auto factor = splat<T>(scale), minus = splat<T>(-lse), shift = splat<T>(delta);
  for (std::int64_t j = s.from; j < s.to; j += lanes<T>) {
    const auto e = exp(fma(load(p + j), factor, minus));
    store(p + j, e);
    if (ds) store(ds + j, factor * e * (load(ds + j) - shift));
  }
}

/// e^x of one element, by the vector's own formula.
template <class T>
inline T exp_of(T x) {
  alignas(64) T lane[lanes<T>];
  store(lane, exp(splat<T>(x)));
  return lane[0];
}

template <class T>
inline void scale_row(T* row, std::int64_t n, T factor) {
  for_vectors<T>(
      n, [&](std::int64_t j, auto part) { store(row + j, part, load(row + j, part) * splat<T>(factor)); });
}

template <class T>
inline T dot(const T* a, const T* b, std::int64_t n) {
  auto total = splat<T>(0);
  for_vectors<T>(
      n, [&](std::int64_t j, auto part) { total = fma(load(a + j, part), load(b + j, part), total); });
  return sum(total);
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
