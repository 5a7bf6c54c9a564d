#include "fairway/ops/scale_rows.h"

#include "cpu/kernel.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

void scale_rows(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const auto columns = a.in[0].meta.shape.columns();
    const T *x = in<T>(a, 0), *r = in<T>(a, 1);
    const T factor = static_cast<const ScaleRows&>(a.op).factor;
    const auto y = out<T>(a, 0);
    parallel_ranges(a, a.in[0].meta.shape.rows(), grain_rows(columns),
                    [&](std::int64_t first, std::int64_t last) {
                      for (auto row = first; row < last; ++row) {
                        const auto by = splat<T>(factor * r[row]);
                        const auto y_row = y.at(row * columns);
                        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
                          y_row.put(i, part, by * load(x + row * columns + i, part));
                        });
                      }
                    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
