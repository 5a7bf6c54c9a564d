#include "fairway/ops/residual.h"

#include "cpu/kernel.h"
#include "cpu/partial.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// A scale per channel, or one for all.
template <class T>
struct Channels {
  const T* s;
  bool scalar;
  template <class Part>
  [[gnu::always_inline]] Vec<T> at(std::int64_t i, Part part) const {
    return scalar ? splat<T>(*s) : load(s + i, part);
  }
};
template <class T>
[[gnu::always_inline]] inline Channels<T> channels(const KernelArgs& a, int i) {
  return {in<T>(a, i), a.in[static_cast<std::size_t>(i)].elements() == 1};
}

}  // namespace

void scaled_residual(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto columns = a.in[0].meta.shape.columns();
    const T *x = in<T>(a, 0), *branch = in<T>(a, 1);
    const auto s = channels<T>(a, 2);
    const auto y = out<T>(a, 0);
    parallel_rows(a, a.in[0].shape().rows(), columns, [&](std::int64_t row) {
      const auto at = row * columns;
      const auto y_row = y.at(at);
      for_vectors<T>(columns, [&](std::int64_t i, auto part) {
        y_row.put(i, part, fma(s.at(i, part), load(branch + at + i, part), load(x + at + i, part)));
      });
    });
  });
}

void scaled_residual_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto columns = a.in[0].meta.shape.columns(), rows = a.in[0].meta.shape.rows();
    const T *branch = in<T>(a, 0), *dy = in<T>(a, 2);
    const auto s = channels<T>(a, 1);
    const auto da = out<T>(a, 0), ds = out<T>(a, 1);
    const std::int64_t width = s.scalar ? lanes<T> : columns;  // of one split's sums
    const auto body = [&](T* sums, std::int64_t first, std::int64_t end) {
      auto all = splat<T>(0);
      for (auto row = first; row < end; ++row) {
        const auto at = row * columns;
        const auto da_row = da.at(at);
        for_vectors<T>(columns, [&](std::int64_t i, auto part) {
          const auto g = load(dy + at + i, part);
          if (sums) {
            const auto v = load(branch + at + i, part);
            if (s.scalar)
              all = fma(g, v, all);
            else
              accumulate(sums + i, part, g * v);
          }
          da_row.put(i, part, s.at(i, part) * g);
        });
      }
      if (sums && s.scalar) store(sums, all);
    };
    const T* partial = partials<T>(a);
    const auto splits = parallel_splits<T>(a, rows, columns, width, bool(ds), body);
    if (!s.scalar) return sum_partials(a, partial, splits, columns, columns, ds);
    if (!ds) return;
    auto total = splat<T>(0);
    for (std::int64_t c = 0; c < splits; ++c) total = total + load(partial + c * width);
    ds.put(0, sum(total));
  });
}

void add(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T *x = in<T>(a, 0), *z = in<T>(a, 1);
    const auto y = out<T>(a, 0);
    parallel_vectors<T>(a, a.in[0].elements(), grain, [&](std::int64_t i, auto part) {
      y.put(i, part, load(x + i, part) + load(z + i, part));
    });
  });
}

void copy(const KernelArgs& a) {
  const auto run = [&]<class T>(T) {
    const T* x = in<T>(a, 0);
    const auto y = out<T>(a, 0);
    parallel_vectors<T>(a, a.in[0].elements(), grain,
                        [&](std::int64_t i, auto part) { y.put(i, part, load(x + i, part)); });
  };
  if (a.in[0].meta.dtype == DType::i32)
    run(std::int32_t{});
  else
    dispatch(a.in[0], run);
}

namespace {

/// Smear works on tiles of this many channels, whose gates stay in the first-level cache.
constexpr std::int64_t smear_tile = 1024;

template <class T>
struct Gates {
  alignas(64) T keep[smear_tile], take[smear_tile];
  Gates(const T* gamma, std::int64_t n) {
    for_vectors<T>(n, [&](std::int64_t i, auto part) {
      const auto g = sigmoid(load(gamma + i, part));
      store(take + i, part, g);
      store(keep + i, part, splat<T>(1) - g);
    });
  }
};

}  // namespace

void smear(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& shape = a.in[0].meta.shape;
    const auto length = shape[1], columns = shape[2];
    const T *x = in<T>(a, 0), *gamma = in<T>(a, 1), *previous = in<T>(a, 2);
    const auto y = out<T>(a, 0);
    parallel_ranges(a, shape.rows(), grain_rows(columns), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t tile = 0; tile < columns; tile += smear_tile) {
        const auto width = smaller(columns - tile, smear_tile);
        const Gates<T> gates(gamma + tile, width);
        for (auto row = first; row < last; ++row) {
          const auto at = row * columns + tile;
          const T* now = x + at;
          const T* before = row % length ? now - columns
                            : previous   ? previous + row / length * columns + tile
                                         : nullptr;
          const auto y_row = y.at(at);
          for_vectors<T>(width, [&](std::int64_t i, auto part) {
            auto v = load(gates.keep + i, part) * load(now + i, part);
            if (before) v = fma(load(gates.take + i, part), load(before + i, part), v);
            y_row.put(i, part, v);
          });
        }
      }
    });
  });
}

void smear_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& shape = a.in[0].meta.shape;
    const auto length = shape[1], columns = shape[2], rows = shape.rows();
    const T *x = in<T>(a, 0), *gamma = in<T>(a, 1), *dy = in<T>(a, 2), *previous = in<T>(a, 3);
    const auto dx = out<T>(a, 0), dgamma = out<T>(a, 1);
    const auto body = [&](T* sums, std::int64_t first, std::int64_t end) {
      for (std::int64_t tile = 0; tile < columns; tile += smear_tile) {
        const auto width = smaller(columns - tile, smear_tile);
        const Gates<T> gates(gamma + tile, width);
        for (auto row = first; row < end; ++row) {
          const auto at = row * columns + tile;
          const T *now = x + at, *g = dy + at;
          const T* before = row % length ? now - columns
                            : previous   ? previous + row / length * columns + tile
                                         : nullptr;
          const T* g_after = row % length + 1 < length ? g + columns : nullptr;
          const auto dx_row = dx.at(at);
          for_vectors<T>(width, [&](std::int64_t i, auto part) {
            const auto v = load(g + i, part);
            if (sums) {
              auto step = splat<T>(0) - load(now + i, part);
              if (before) step = step + load(before + i, part);
              accumulate(sums + tile + i, part, v * step);
            }
            if (!dx) return;
            auto result = load(gates.keep + i, part) * v;
            if (g_after) result = fma(load(gates.take + i, part), load(g_after + i, part), result);
            dx_row.put(i, part, result);
          });
        }
      }
    };
    const T* partial = partials<T>(a);
    const auto splits = parallel_splits<T>(a, rows, columns, columns, bool(dgamma), body);
    if (!dgamma) return;
    for_vectors<T>(columns, [&](std::int64_t i, auto part) {
      auto total = splat<T>(0);
      for (std::int64_t c = 0; c < splits; ++c) total = total + load(partial + c * columns + i, part);
      const auto g = sigmoid(load(gamma + i, part));
      dgamma.put(i, part, g * (splat<T>(1) - g) * total);
    });
  });
}

void take_last(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& shape = a.in[0].meta.shape;
    const auto length = shape[1], columns = shape[2];
    const std::int64_t n = static_cast<const TakeLast&>(a.op).n;
    const T* x = in<T>(a, 0);
    const auto y = out<T>(a, 0);
    parallel_rows(a, shape[0] * n, columns, [&](std::int64_t row) {
      put_row(y.at(row * columns), x + (row / n * length + length - n + row % n) * columns, columns);
    });
  });
}

void take_last_backward(const KernelArgs& a) {
  dispatch(a.in[1], [&]<class T>(T) {
    const auto& shape = a.in[0].meta.shape;
    const auto length = shape[1], columns = shape[2], n = a.in[1].meta.shape[1];
    const T* dy = in<T>(a, 1);
    const auto dx = out<T>(a, 0);
    parallel_rows(a, shape.rows(), columns, [&](std::int64_t row) {
      const auto from = row % length - (length - n);
      if (from < 0 && dx.add) return;
      put_row(dx.at(row * columns), from < 0 ? nullptr : dy + (row / length * n + from) * columns, columns);
    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
