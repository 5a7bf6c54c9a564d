#include "cpu/kernel.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

void memory_tokens(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const auto& shape = a.in[0].meta.shape;
    const auto length = shape[1], columns = shape[2], count = a.in[1].meta.shape[0];
    const T *x = in<T>(a, 0), *head = in<T>(a, 1);
    const auto y = out<T>(a, 0);
    parallel_ranges(a, shape.rows(), grain_rows(columns), [&](std::int64_t first, std::int64_t last) {
      for (auto row = first; row < last; ++row) {
        const auto t = row % length;
        const T* from = t < count ? head + t * columns : x + row * columns;
        const auto y_row = y.at(row * columns);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) { y_row.put(i, part, load(from + i, part)); });
      }
    });
  });
}

void memory_tokens_backward(const KernelArgs& a) {
  dispatch(a.in[1], [&](auto zero) {
    using T = decltype(zero);
    const auto& shape = a.in[1].meta.shape;
    const auto batch = shape[0], length = shape[1], columns = shape[2], count = a.in[0].meta.shape[0];
    const T* dy = in<T>(a, 1);
    const auto dx = out<T>(a, 0), dhead = out<T>(a, 1);
    if (dhead) {
      parallel(a, count, [&](std::int64_t k) {
        const auto to = dhead.at(k * columns);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
          auto total = splat<T>(0);
          for (std::int64_t b = 0; b < batch; ++b)
            total = total + load(dy + (b * length + k) * columns + i, part);
          to.put(i, part, total);
        });
      });
    }
    if (!dx) return;
    parallel_ranges(a, shape.rows(), grain_rows(columns), [&](std::int64_t first, std::int64_t last) {
      for (auto row = first; row < last; ++row) {
        const bool covered = row % length < count;
        if (covered && dx.add) continue;
        const auto at = row * columns;
        const auto dx_row = dx.at(at);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
          dx_row.put(i, part, covered ? splat<T>(0) : load(dy + at + i, part));
        });
      }
    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
