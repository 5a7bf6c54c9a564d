#include "fairway/ops/cast_rows.h"

#include "cpu/kernel.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// Q of one row: the identity, or its quantiser.
template <class T>
struct Levels {
  Levels(const T* w, std::int64_t columns, T steps) : q(steps) {
    if (q == 0) return;
    auto greatest = splat<T>(0);
    for_vectors<T>(columns,
                   [&](std::int64_t i, auto part) { greatest = max(abs(load(w + i, part)), greatest); });
    const T by_range = max_of(greatest) / q, least = T(1) / q;
    s = splat<T>(by_range > least ? by_range : least);
  }
  [[gnu::always_inline]] Vec<T> operator()(const Vec<T>& w) const {
    return q == 0 ? w : s * min(splat<T>(q), max(splat<T>(-q - 1), round_even(w / s)));
  }
  T q;
  Vec<T> s = splat<T>(1);
};

}  // namespace

void cast_rows(const KernelArgs& a) {
  if (!a.out[0].data) return;
  if (a.out[0].meta.dtype == DType::bf16) dtype_fault(DType::bf16);
  dispatch(a.in[0], [&]<class T>(T) {
    const T q = static_cast<T>(static_cast<const CastRows&>(a.op).q);
    const auto rows = a.in[0].shape().rows(), columns = a.in[0].shape().columns();
    const T *w = in<T>(a, 0), *scale = in<T>(a, 1);
    const auto y = out<T>(a, 0);
    parallel_rows(a, rows, columns, [&](std::int64_t row) {
      const auto at = row * columns;
      const Levels<T> levels(w + at, columns, q);
      const auto factor = splat<T>(scale ? scale[row] : T(1));
      for_vectors<T>(columns, [&](std::int64_t i, auto part) {
        const auto level = levels(load(w + at + i, part));
        y.at(at).put(i, part, scale ? factor * level : level);
      });
    });
  });
}

void cast_rows_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T q = static_cast<T>(static_cast<const CastRowsBackward&>(a.op).q);
    const auto rows = a.in[0].shape().rows(), columns = a.in[0].shape().columns();
    const T *w = in<T>(a, 0), *scale = in<T>(a, 1), *dy = in<T>(a, 2);
    const auto dw = out<T>(a, 0), dscale = out<T>(a, 1);
    parallel_rows(a, rows, columns, [&](std::int64_t row) {
      const auto at = row * columns;
      const Levels<T> levels(w + at, columns, q);
      const auto factor = splat<T>(scale ? scale[row] : T(1));
      auto dot = splat<T>(0);
      for_vectors<T>(columns, [&](std::int64_t i, auto part) {
        const auto d = load(dy + at + i, part);
        dot = fma(d, levels(load(w + at + i, part)), dot);
        dw.at(at).put(i, part, factor * d);
      });
      dscale.put(row, sum(dot));
    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
