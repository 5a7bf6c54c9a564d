#pragma once
// Partial sums of parameter gradients: one row of the workspace for each piece of the batch.

#include "chunks.h"
#include "cpu/kernel.h"

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

/// result[i] = sum over pieces of partial[piece * stride + i], in the order of the pieces, i < n.
template <class T>
inline void sum_partials(const KernelArgs& a, const T* partial, std::int64_t pieces, std::int64_t stride,
                         std::int64_t n, const Out<T>& result) {
  if (!result) return;
  parallel_ranges(a, n, 256, [&](std::int64_t first, std::int64_t last) {
    for_vectors<T>(last - first, [&](std::int64_t j, auto part) {
      const auto i = first + j;
      auto total = splat<T>(0);
      for (std::int64_t c = 0; c < pieces; ++c) total = total + load(partial + c * stride + i, part);
      result.put(i, part, total);
    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
