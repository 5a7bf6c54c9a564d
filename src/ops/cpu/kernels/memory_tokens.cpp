#include "cpu/kernel.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

void memory_tokens(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& shape = a.in[0].meta.shape;
    const auto length = shape[1], columns = shape[2], count = a.in[1].meta.shape[0];
    const T *x = in<T>(a, 0), *head = in<T>(a, 1);
    const auto y = out<T>(a, 0);
    parallel_rows(a, shape.rows(), columns, [&](std::int64_t row) {
      const auto t = row % length;
      put_row(y.at(row * columns), t < count ? head + t * columns : x + row * columns, columns);
    });
  });
}

void memory_tokens_backward(const KernelArgs& a) {
  dispatch(a.in[1], [&]<class T>(T) {
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
    parallel_rows(a, shape.rows(), columns, [&](std::int64_t row) {
      const bool covered = row % length < count;
      const auto at = row * columns;
      if (!covered || !dx.add) put_row(dx.at(at), covered ? nullptr : dy + at, columns);
    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
