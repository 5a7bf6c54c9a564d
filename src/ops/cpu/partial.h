#pragma once
// Partial sums of parameter gradients: one row of the workspace for each split of the batch.

#include "cpu/kernel.h"
#include "row_splits.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

template <class T>
[[gnu::always_inline]] inline T* partials(const KernelArgs& a) {
  return static_cast<T*>(a.workspace.data);
}

template <class T>
inline void fill_zero(T* p, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) p[i] = T{};
}

/// p[i] += v.
template <class T, class Part>
[[gnu::always_inline]] inline void accumulate(T* p, Part part, const Vec<T>& v) {
  store(p, part, load(p, part) + v);
}

/// Calls f(sums, first, end) for each split of `rows` rows: `sums` are the split's `width` sums in the
/// workspace, zero at first, or null where nobody wants them. Gives the number of splits.
template <class T, class F>
inline std::int64_t parallel_splits(const KernelArgs& a, std::int64_t rows, std::int64_t columns,
                                    std::int64_t width, bool wanted, const F& f) {
  const RowSplits splits = split_rows(rows, columns);
  parallel(a, splits.count, [&](std::int64_t c) {
    T* sums = wanted ? partials<T>(a) + c * width : nullptr;
    if (sums) fill_zero(sums, width);
    const auto first = c * splits.each;
    f(sums, first, smaller(first + splits.each, rows));
  });
  return splits.count;
}

/// result[i] = sum over splits of partial[split * stride + i], in the order of the splits, i < n.
template <class T>
inline void sum_partials(const KernelArgs& a, const T* partial, std::int64_t splits, std::int64_t stride,
                         std::int64_t n, const Out<T>& result) {
  if (!result) return;
  parallel_ranges(a, n, 256, [&](std::int64_t first, std::int64_t last) {
    for_vectors<T>(last - first, [&](std::int64_t j, auto part) {
      const auto i = first + j;
      auto total = splat<T>(0);
      for (std::int64_t c = 0; c < splits; ++c) total = total + load(partial + c * stride + i, part);
      result.put(i, part, total);
    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
