#include "fairway/ops/fake_quantize.h"

#include "cpu/kernel.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

void fake_quantize_rows(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const T q = static_cast<T>(static_cast<const FakeQuantizeRows&>(a.op).q);
    const auto& shape = a.in[0].meta.shape;
    const auto columns = shape.columns();
    const T* w = in<T>(a, 0);
    const auto y = out<T>(a, 0);
    parallel_ranges(a, shape.rows(), grain_rows(columns), [&](std::int64_t first, std::int64_t last) {
      for (auto row = first; row < last; ++row) {
        const T* w_row = w + row * columns;
        auto greatest = splat<T>(0);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
          greatest = max(abs(load(w_row + i, part)), greatest);
        });
        const T by_range = max_of(greatest) / q, least = T(1) / q,
                scale = by_range > least ? by_range : least;
        const auto y_row = y.at(row * columns);
        const auto s = splat<T>(scale), low = splat<T>(-q - 1), high = splat<T>(q);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
          const auto level = round_even(load(w_row + i, part) / s);
          y_row.put(i, part, s * min(high, max(low, level)));
        });
      }
    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
