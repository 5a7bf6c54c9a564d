#include "fairway/ops/norm.h"

#include "cpu/kernel.h"
#include "cpu/partial.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// 1 / sqrt(mean of squares + eps) from sums of squares of parts of the row.
template <class T>
[[gnu::always_inline]] inline T norm_of_squares(const T* squares, std::int64_t parts, std::int64_t columns,
                                                T eps) {
  T total = 0;
  for (std::int64_t p = 0; p < parts; ++p) total += squares[p];
  return inverse_root(total / static_cast<T>(columns) + eps);
}

/// The forward of all three: m = value, y = scale * rms(m), r, with value = row_at(offset of a row). Reads
/// everything before it writes, so that m may lie over an input.
template <class T, class Op, class F>
inline void norm_rows(const KernelArgs& a, const Out<T>& m, const Out<T>& y, const Out<T>& r,
                      const F& row_at) {
  const auto& op = static_cast<const Op&>(a.op);
  const T scale = op.scale, eps = op.eps;
  const auto rows = a.in[0].shape().rows(), columns = a.in[0].shape().columns();
  parallel_rows(a, rows, columns, [&](std::int64_t row) {
    const auto at = row * columns;
    const auto value = row_at(at);
    const T inverse = inverse_rms<T>(columns, eps, value);
    const auto factor = splat<T>(scale * inverse);
    const auto m_row = m.at(at), y_row = y.at(at);
    for_vectors<T>(columns, [&](std::int64_t i, auto part) {
      const auto v = value(i, part);
      m_row.put(i, part, v);
      y_row.put(i, part, factor * v);
    });
    r.put(row, inverse);
  });
}

/// Gradient through y = scale * rms(x) of one row, as two factors: dx = dy * by_dy - x * by_x.
/// dx = g' - x (x . g') r^2 / D with g' = scale r dy: Zhang and Sennrich 2019, docs/spec/model.md section 15.
/// x is given as value(i, part); dy is g' itself when `prescaled`.
template <class T>
struct RowGradient {
  Vec<T> by_dy, by_x;
  template <class F>
  RowGradient(const F& value, const T* dy, T scale, bool prescaled, T r, std::int64_t columns) {
    auto dot = splat<T>(0);
    for_vectors<T>(columns,
                   [&](std::int64_t i, auto part) { dot = fma(value(i, part), load(dy + i, part), dot); });
    const T factor = prescaled ? 1 : scale * r;
    by_dy = splat<T>(factor);
    by_x = splat<T>(factor * (sum(dot) * r * r / static_cast<T>(columns)));
  }
  RowGradient() : by_dy(splat<T>(0)), by_x(splat<T>(0)) {}
};

/// g = direct + d(rms)(dy) at element i of a row, where x is; either gradient may be absent.
template <class T, class Part>
[[gnu::always_inline]] inline Vec<T> joined(const RowGradient<T>& row, const Vec<T>& x, const T* direct,
                                            const T* dy, std::int64_t i, Part part) {
  if (!dy) return direct ? load(direct + i, part) : splat<T>(0);
  const auto g = load(dy + i, part) * row.by_dy - x * row.by_x;
  return direct ? load(direct + i, part) + g : g;
}

template <class T>
[[gnu::always_inline]] inline const T* row_of(const T* p, std::int64_t offset) {
  return p ? p + offset : nullptr;
}

}  // namespace

void rms_norm(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T *x = in<T>(a, 0), *squares = in<T>(a, 1);
    const auto y = out<T>(a, 0), r = out<T>(a, 1);
    if (!squares || y)
      return norm_rows<T, RmsNorm>(a, {}, y, r, [&](std::int64_t at) {
        return [row = x + at](std::int64_t i, auto part) { return load(row + i, part); };
      });
    const T eps = static_cast<const RmsNorm&>(a.op).eps;
    const auto columns = a.in[0].shape().columns(), parts = a.in[1].shape().columns();
    parallel_rows(a, a.in[0].shape().rows(), columns, [&](std::int64_t row) {
      r.put(row, norm_of_squares<T>(squares + row * parts, parts, columns, eps));
    });
  });
}

void rms_norm_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& op = static_cast<const RmsNormBackward&>(a.op);
    const T scale = op.scale;
    const auto columns = a.in[0].meta.shape.columns();
    const T *x = in<T>(a, 0), *r = in<T>(a, 1), *dy = in<T>(a, 2);
    const auto dx = out<T>(a, 0);
    parallel_rows(a, a.in[0].shape().rows(), columns, [&](std::int64_t row) {
      const T *x_row = x + row * columns, *dy_row = row_of(dy, row * columns);
      const auto value = [&](std::int64_t i, auto part) { return load(x_row + i, part); };
      const auto g =
          dy ? RowGradient<T>(value, dy_row, scale, op.prescaled, r[row], columns) : RowGradient<T>();
      const auto dx_row = dx.at(row * columns);
      for_vectors<T>(columns, [&](std::int64_t i, auto part) {
        dx_row.put(i, part, joined<T>(g, value(i, part), nullptr, dy_row, i, part));
      });
    });
  });
}

namespace {

/// m = a . (u + k . s) + b . x0 of one row; without a skip connection s is null.
template <class T>
struct MixedRow {
  const T *u, *x0, *s, *a, *b, *k;
  MixedRow(const T* u, const T* x0, const T* s, const T* mix, const T* k, std::int64_t columns,
           std::int64_t at)
      : u(u + at), x0(x0 + at), s(row_of(s, at)), a(mix), b(mix + columns), k(k) {}
  /// u + k . s.
  template <class Part>
  [[gnu::always_inline]] Vec<T> sum(std::int64_t i, Part part) const {
    const auto v = load(u + i, part);
    return s ? fma(load(k + i, part), load(s + i, part), v) : v;
  }
  template <class Part>
  [[gnu::always_inline]] Vec<T> operator()(std::int64_t i, Part part) const {
    return fma(load(a + i, part), sum(i, part), load(b + i, part) * load(x0 + i, part));
  }
};

/// Outputs of mix_norm_backward at one row.
template <class T>
struct MixedGradients {
  Out<T> du, dx0, ds;
  T* sums;  ///< of g . (u + k . s), g . x0 and t . s, or null
};

/// Reads an element of every input before it writes one: outputs may lie over dm and dy.
template <class T>
[[gnu::always_inline]] inline void mix_row_backward(const MixedRow<T>& row, const RowGradient<T>& norm,
                                                    const T* dm, const T* dy, std::int64_t columns,
                                                    const MixedGradients<T>& to) {
  for_vectors<T>(columns, [&](std::int64_t i, auto part) {
    const auto g = joined(norm, row(i, part), dm, dy, i, part), t = load(row.a + i, part) * g;
    if (to.sums) {
      accumulate(to.sums + i, part, g * row.sum(i, part));
      accumulate(to.sums + columns + i, part, g * load(row.x0 + i, part));
      if (row.s) accumulate(to.sums + 2 * columns + i, part, t * load(row.s + i, part));
    }
    to.du.put(i, part, t);
    to.dx0.put(i, part, load(row.b + i, part) * g);
    if (to.ds) to.ds.put(i, part, load(row.k + i, part) * t);
  });
}

}  // namespace

void mix_norm(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto columns = a.in[0].shape().columns();
    const T *u = in<T>(a, 0), *x0 = in<T>(a, 1), *mix = in<T>(a, 2), *s = in<T>(a, 3), *k = in<T>(a, 4);
    norm_rows<T, MixNorm>(a, out<T>(a, 0), out<T>(a, 1), out<T>(a, 2),
                          [&](std::int64_t at) { return MixedRow<T>(u, x0, s, mix, k, columns, at); });
  });
}

void mix_norm_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& op = static_cast<const MixNormBackward&>(a.op);
    const T scale = op.scale;
    const auto columns = a.in[0].meta.shape.columns(), rows = a.in[0].meta.shape.rows();
    const T *u = in<T>(a, 0), *x0 = in<T>(a, 1), *mix = in<T>(a, 2), *r = in<T>(a, 3);
    const T *dm = in<T>(a, 4), *dy = in<T>(a, 5), *s = in<T>(a, 6), *k = in<T>(a, 7);
    const auto du = out<T>(a, 0), dx0 = out<T>(a, 1), dmix = out<T>(a, 2), ds = out<T>(a, 3),
               dk = out<T>(a, 4);
    const std::int64_t width = (op.skip ? 3 : 2) * columns;
    const auto body = [&](T* sums, std::int64_t first, std::int64_t end) {
      for (auto row = first; row < end; ++row) {
        const auto at = row * columns;
        const T *dm_row = row_of(dm, at), *dy_row = row_of(dy, at);
        const MixedRow<T> mixed(u, x0, s, mix, k, columns, at);
        const auto norm =
            dy ? RowGradient<T>(mixed, dy_row, scale, op.prescaled, r[row], columns) : RowGradient<T>();
        mix_row_backward<T>(mixed, norm, dm_row, dy_row, columns, {du.at(at), dx0.at(at), ds.at(at), sums});
      }
    };
    const auto splits = parallel_splits<T>(a, rows, columns, width, dmix || dk, body);
    sum_partials(a, partials<T>(a), splits, width, 2 * columns, dmix);
    sum_partials(a, partials<T>(a) + 2 * columns, splits, width, columns, dk);
  });
}

void residual_norm(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T *x = in<T>(a, 0), *branch = in<T>(a, 1), *s = in<T>(a, 2);
    norm_rows<T, ResidualNorm>(a, out<T>(a, 0), out<T>(a, 1), out<T>(a, 2), [&](std::int64_t at) {
      return [s, branch_row = branch + at, x_row = x + at](std::int64_t i, auto part) {
        return fma(load(s + i, part), load(branch_row + i, part), load(x_row + i, part));
      };
    });
  });
}

void residual_norm_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T scale = static_cast<const ResidualNormBackward&>(a.op).scale;
    const auto columns = a.in[0].meta.shape.columns(), rows = a.in[0].meta.shape.rows();
    const T *p = in<T>(a, 0), *r = in<T>(a, 1), *branch = in<T>(a, 2), *s = in<T>(a, 3);
    const T *dp = in<T>(a, 4), *dz = in<T>(a, 5);
    const auto dx = out<T>(a, 0), da = out<T>(a, 1), ds = out<T>(a, 2);
    const auto body = [&](T* sums, std::int64_t first, std::int64_t end) {
      for (auto row = first; row < end; ++row) {
        const auto at = row * columns;
        const T *p_row = p + at, *dp_row = row_of(dp, at), *dz_row = row_of(dz, at);
        const auto value = [&](std::int64_t i, auto part) { return load(p_row + i, part); };
        const auto norm =
            dz ? RowGradient<T>(value, dz_row, scale, false, r[row], columns) : RowGradient<T>();
        const auto dx_row = dx.at(at), da_row = da.at(at);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
          const auto g = joined(norm, value(i, part), dp_row, dz_row, i, part);
          if (sums) accumulate(sums + i, part, g * load(branch + at + i, part));
          dx_row.put(i, part, g);
          da_row.put(i, part, load(s + i, part) * g);
        });
      }
    };
    const auto splits = parallel_splits<T>(a, rows, columns, columns, bool(ds), body);
    sum_partials(a, partials<T>(a), splits, columns, columns, ds);
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
