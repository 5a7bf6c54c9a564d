#include "fairway/ops/row_squares.h"

#include "cpu/kernel.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

void row_squares(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const auto columns = a.in[0].meta.shape.columns(), parts = a.out[0].meta.shape.columns();
    const T* x = in<T>(a, 0);
    const auto squares = out<T>(a, 0);
    parallel_ranges(
        a, a.in[0].meta.shape.rows(), grain_rows(columns), [&](std::int64_t first, std::int64_t last) {
          for (auto row = first; row < last; ++row)
            for (std::int64_t p = 0; p < parts; ++p) {
              const T* part_of = x + row * columns + p * squares_width;
              const auto left = columns - p * squares_width;
              auto total = splat<T>(0);
              for_vectors<T>(left < squares_width ? left : squares_width, [&](std::int64_t i, auto part) {
                const auto v = load(part_of + i, part);
                total = fma(v, v, total);
              });
              squares.put(row * parts + p, sum(total));
            }
        });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
