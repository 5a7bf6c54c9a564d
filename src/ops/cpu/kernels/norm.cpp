#include "fairway/ops/norm.h"

#include "cpu/kernel.h"
#include "cpu/partial.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// 1 / sqrt(mean of squares + eps) of the row whose vectors value(i, part) gives (zeros past the end).
template <class T, class F>
[[gnu::always_inline]] inline T inverse_rms(std::int64_t columns, T eps, const F& value) {
  auto squares = splat<T>(0);
  for_vectors<T>(columns, [&](std::int64_t i, auto part) {
    const auto v = value(i, part);
    squares = fma(v, v, squares);
  });
  const T mean = sum(squares) / static_cast<T>(columns) + eps;
  if constexpr (sizeof(T) == 4)
    return 1 / __builtin_sqrtf(mean);
  else
    return 1 / __builtin_sqrt(mean);
}

/// The forward of all three: m = value, y = scale * rms(m), r. Reads everything before it writes, so that m
/// may lie over an input.
template <class T, class F>
[[gnu::always_inline]] inline void norm_row(std::int64_t columns, T scale, T eps, const Out<T>& m,
                                            const Out<T>& y, const Out<T>& r, std::int64_t row,
                                            const F& value) {
  const T inverse = inverse_rms<T>(columns, eps, value);
  const auto factor = splat<T>(scale * inverse);
  const auto m_row = m.at(row * columns), y_row = y.at(row * columns);
  for_vectors<T>(columns, [&](std::int64_t i, auto part) {
    const auto v = value(i, part);
    m_row.put(i, part, v);
    y_row.put(i, part, factor * v);
  });
  r.put(row, inverse);
}

/// Gradient through y = scale * rms(x) of one row, as two factors: dx = dy * by_dy - x * by_x.
/// dx = scale r (dy - x (x . dy) r^2 / D): Zhang and Sennrich 2019, spec/model.md section 15.
template <class T>
struct RowGradient {
  Vec<T> by_dy, by_x;
  RowGradient(const T* x, const T* dy, T scale, T r, std::int64_t columns) {
    auto dot = splat<T>(0);
    for_vectors<T>(columns,
                   [&](std::int64_t i, auto part) { dot = fma(load(x + i, part), load(dy + i, part), dot); });
    by_dy = splat<T>(scale * r);
    by_x = splat<T>(scale * r * (sum(dot) * r * r / static_cast<T>(columns)));
  }
  RowGradient() : by_dy(splat<T>(0)), by_x(splat<T>(0)) {}
  template <class Part>
  [[gnu::always_inline]] Vec<T> at(const T* x, const T* dy, std::int64_t i, Part part) const {
    return load(dy + i, part) * by_dy - load(x + i, part) * by_x;
  }
};

/// g = direct + d(rms)(dy) at element i of a row; either gradient may be absent.
template <class T, class Part>
[[gnu::always_inline]] inline Vec<T> joined(const RowGradient<T>& row, const T* x, const T* direct,
                                            const T* dy, std::int64_t i, Part part) {
  if (!dy) return direct ? load(direct + i, part) : splat<T>(0);
  const auto g = row.at(x, dy, i, part);
  return direct ? load(direct + i, part) + g : g;
}

template <class T>
[[gnu::always_inline]] inline const T* row_of(const T* p, std::int64_t offset) {
  return p ? p + offset : nullptr;
}

}  // namespace

void rms_norm(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const auto& op = static_cast<const RmsNorm&>(a.op);
    const T scale = op.scale, eps = op.eps;
    const auto columns = a.in[0].meta.shape.columns();
    const T* x = in<T>(a, 0);
    const auto y = out<T>(a, 0), r = out<T>(a, 1);
    parallel_ranges(a, a.in[0].meta.shape.rows(), grain_rows(columns),
                    [&](std::int64_t first, std::int64_t last) {
                      for (auto row = first; row < last; ++row) {
                        const T* x_row = x + row * columns;
                        norm_row<T>(columns, scale, eps, {}, y, r, row,
                                    [&](std::int64_t i, auto part) { return load(x_row + i, part); });
                      }
                    });
  });
}

void rms_norm_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const T scale = static_cast<const RmsNormBackward&>(a.op).scale;
    const auto columns = a.in[0].meta.shape.columns();
    const T *x = in<T>(a, 0), *r = in<T>(a, 1), *dy = in<T>(a, 2);
    const auto dx = out<T>(a, 0);
    parallel_ranges(
        a, a.in[0].meta.shape.rows(), grain_rows(columns), [&](std::int64_t first, std::int64_t last) {
          for (auto row = first; row < last; ++row) {
            const T *x_row = x + row * columns, *dy_row = row_of(dy, row * columns);
            const auto g = dy ? RowGradient<T>(x_row, dy_row, scale, r[row], columns) : RowGradient<T>();
            const auto dx_row = dx.at(row * columns);
            for_vectors<T>(columns, [&](std::int64_t i, auto part) {
              dx_row.put(i, part, joined<T>(g, x_row, nullptr, dy_row, i, part));
            });
          }
        });
  });
}

void mix_norm(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const auto& op = static_cast<const MixNorm&>(a.op);
    const T scale = op.scale, eps = op.eps;
    const auto columns = a.in[0].meta.shape.columns();
    const T *u = in<T>(a, 0), *x0 = in<T>(a, 1), *mix = in<T>(a, 2);
    const auto m = out<T>(a, 0), y = out<T>(a, 1), r = out<T>(a, 2);
    parallel_ranges(a, a.in[0].meta.shape.rows(), grain_rows(columns),
                    [&](std::int64_t first, std::int64_t last) {
                      for (auto row = first; row < last; ++row) {
                        const T *u_row = u + row * columns, *x0_row = x0 + row * columns;
                        norm_row<T>(columns, scale, eps, m, y, r, row, [&](std::int64_t i, auto part) {
                          return fma(load(mix + i, part), load(u_row + i, part),
                                     load(mix + columns + i, part) * load(x0_row + i, part));
                        });
                      }
                    });
  });
}

void mix_norm_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const T scale = static_cast<const MixNormBackward&>(a.op).scale;
    const auto columns = a.in[0].meta.shape.columns(), rows = a.in[0].meta.shape.rows();
    const T *u = in<T>(a, 0), *x0 = in<T>(a, 1), *mix = in<T>(a, 2), *m = in<T>(a, 3), *r = in<T>(a, 4);
    const T *dm = in<T>(a, 5), *dy = in<T>(a, 6);
    const auto du = out<T>(a, 0), dx0 = out<T>(a, 1), dmix = out<T>(a, 2);
    const auto chunks = chunks_of(rows, columns);
    T* partial = partials<T>(a);
    parallel(a, chunks.count, [&](std::int64_t c) {
      T* sums = dmix ? partial + c * 2 * columns : nullptr;
      if (sums) fill_zero(sums, 2 * columns);
      const auto end = (c + 1) * chunks.rows < rows ? (c + 1) * chunks.rows : rows;
      for (auto row = c * chunks.rows; row < end; ++row) {
        const auto at = row * columns;
        const T *m_row = m + at, *dm_row = row_of(dm, at), *dy_row = row_of(dy, at);
        const auto norm = dy ? RowGradient<T>(m_row, dy_row, scale, r[row], columns) : RowGradient<T>();
        const auto du_row = du.at(at), dx0_row = dx0.at(at);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
          const auto g = joined(norm, m_row, dm_row, dy_row, i, part);
          if (sums) {
            accumulate(sums + i, part, g * load(u + at + i, part));
            accumulate(sums + columns + i, part, g * load(x0 + at + i, part));
          }
          du_row.put(i, part, load(mix + i, part) * g);
          dx0_row.put(i, part, load(mix + columns + i, part) * g);
        });
      }
    });
    sum_partials(a, partial, chunks.count, 2 * columns, 2 * columns, dmix);
  });
}

void residual_norm(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const auto& op = static_cast<const ResidualNorm&>(a.op);
    const T scale = op.scale, eps = op.eps;
    const auto columns = a.in[0].meta.shape.columns();
    const T *x = in<T>(a, 0), *branch = in<T>(a, 1), *s = in<T>(a, 2);
    const auto p = out<T>(a, 0), z = out<T>(a, 1), r = out<T>(a, 2);
    parallel_ranges(a, a.in[0].meta.shape.rows(), grain_rows(columns),
                    [&](std::int64_t first, std::int64_t last) {
                      for (auto row = first; row < last; ++row) {
                        const T *x_row = x + row * columns, *branch_row = branch + row * columns;
                        norm_row<T>(columns, scale, eps, p, z, r, row, [&](std::int64_t i, auto part) {
                          return fma(load(s + i, part), load(branch_row + i, part), load(x_row + i, part));
                        });
                      }
                    });
  });
}

void residual_norm_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) {
    using T = decltype(zero);
    const T scale = static_cast<const ResidualNormBackward&>(a.op).scale;
    const auto columns = a.in[0].meta.shape.columns(), rows = a.in[0].meta.shape.rows();
    const T *p = in<T>(a, 0), *r = in<T>(a, 1), *branch = in<T>(a, 2), *s = in<T>(a, 3);
    const T *dp = in<T>(a, 4), *dz = in<T>(a, 5);
    const auto dx = out<T>(a, 0), da = out<T>(a, 1), ds = out<T>(a, 2);
    const auto chunks = chunks_of(rows, columns);
    T* partial = partials<T>(a);
    parallel(a, chunks.count, [&](std::int64_t c) {
      T* sums = ds ? partial + c * columns : nullptr;
      if (sums) fill_zero(sums, columns);
      const auto end = (c + 1) * chunks.rows < rows ? (c + 1) * chunks.rows : rows;
      for (auto row = c * chunks.rows; row < end; ++row) {
        const auto at = row * columns;
        const T *p_row = p + at, *dp_row = row_of(dp, at), *dz_row = row_of(dz, at);
        const auto norm = dz ? RowGradient<T>(p_row, dz_row, scale, r[row], columns) : RowGradient<T>();
        const auto dx_row = dx.at(at), da_row = da.at(at);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
          const auto g = joined(norm, p_row, dp_row, dz_row, i, part);
          if (sums) accumulate(sums + i, part, g * load(branch + at + i, part));
          dx_row.put(i, part, g);
          da_row.put(i, part, load(s + i, part) * g);
        });
      }
    });
    sum_partials(a, partial, chunks.count, columns, columns, ds);
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
