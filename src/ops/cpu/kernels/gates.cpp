#include "fairway/ops/gates.h"

#include "cpu/kernel.h"
#include "cpu/partial.h"
#include "kernels.h"
#include "softmax_block.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

template <class T>
T sigmoid_of(T x) {
  alignas(64) T lane[lanes<T>];
  store(lane, sigmoid(splat<T>(x)));
  return lane[0];
}

/// parallel_splits by rows: f(row, sums).
template <class T, class F>
std::int64_t row_splits(const KernelArgs& a, std::int64_t rows, std::int64_t columns, std::int64_t width,
                        bool wanted, const F& f) {
  return parallel_splits<T>(a, rows, columns, width, wanted,
                            [&](T* sums, std::int64_t first, std::int64_t end) {
                              for (auto row = first; row < end; ++row) f(row, sums);
                            });
}

}  // namespace

void gated_skip(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto columns = a.in[0].meta.shape.columns();
    const T *x = in<T>(a, 0), *s = in<T>(a, 1), *w = in<T>(a, 2), *gate = in<T>(a, 3);
    const auto y = out<T>(a, 0);
    parallel_rows(a, a.in[0].shape().rows(), columns, [&](std::int64_t row) {
      const auto at = row * columns;
      const auto y_row = y.at(at);
      for_vectors<T>(columns, [&](std::int64_t i, auto part) {
        const auto g = sigmoid(load(gate + i, part));
        const auto skip = (splat<T>(1) - g) * (load(w + i, part) * load(s + at + i, part));
        y_row.put(i, part, fma(g, load(x + at + i, part), skip));
      });
    });
  });
}

void gated_skip_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto columns = a.in[0].meta.shape.columns();
    const T *x = in<T>(a, 0), *s = in<T>(a, 1), *w = in<T>(a, 2), *gate = in<T>(a, 3), *dy = in<T>(a, 4);
    const auto dx = out<T>(a, 0), ds = out<T>(a, 1), dw = out<T>(a, 2), dgate = out<T>(a, 3);
    const auto one = splat<T>(1);
    const auto backward_of_row = [&](std::int64_t row, T* sums) {
      const auto at = row * columns;
      const auto dx_row = dx.at(at), ds_row = ds.at(at);
      for_vectors<T>(columns, [&](std::int64_t i, auto part) {
        const auto g = sigmoid(load(gate + i, part)), d = load(dy + at + i, part);
        const auto scale = load(w + i, part), from = load(s + at + i, part), now = load(x + at + i, part);
        dx_row.put(i, part, g * d);
        ds_row.put(i, part, (one - g) * scale * d);
        if (!sums) return;
        accumulate(sums + i, part, from * d);
        accumulate(sums + columns + i, part, (now - scale * from) * d);
      });
    };
    const bool wanted = dw || dgate;
    const auto splits =
        row_splits<T>(a, a.in[0].shape().rows(), columns, 2 * columns, wanted, backward_of_row);
    if (!wanted) return;
    const T* partial = partials<T>(a);
    for_vectors<T>(columns, [&](std::int64_t i, auto part) {
      auto along = splat<T>(0), across = splat<T>(0);
      for (std::int64_t c = 0; c < splits; ++c) {
        along = along + load(partial + 2 * c * columns + i, part);
        across = across + load(partial + (2 * c + 1) * columns + i, part);
      }
      const auto g = sigmoid(load(gate + i, part));
      dw.put(i, part, (one - g) * along);
      dgate.put(i, part, g * (one - g) * across);
    });
  });
}

namespace {

/// Where a row of o and its row of n are.
struct GateRows {
  std::int64_t queries, positions, heads, dh, columns, channels;
  explicit GateRows(const KernelArgs& a)
      : queries(a.in[0].shape()[1]),
        positions(a.in[1].shape()[1]),
        heads(a.in[0].shape()[2]),
        dh(a.in[0].shape()[3]),
        columns(a.in[1].shape()[2]),
        channels(a.in[2].shape()[1]) {}
  std::int64_t o_at(std::int64_t row, std::int64_t h) const { return (row * heads + h) * dh; }
  /// Of row `row` of n; -1: it has no output.
  std::int64_t o_row(std::int64_t row) const {
    const auto query = row % positions - (positions - queries);
    return query < 0 ? -1 : row / positions * queries + query;
  }
};

}  // namespace

void head_gate(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& op = static_cast<const HeadGate&>(a.op);
    const GateRows z(a);
    const T *o = in<T>(a, 0), *n = in<T>(a, 1), *w = in<T>(a, 2);
    const auto y = out<T>(a, 0);
    parallel_rows(a, a.in[1].shape().rows(), z.heads * z.dh, [&](std::int64_t row) {
      const auto o_row = z.o_row(row);
      for (std::int64_t h = 0; o_row >= 0 && h < z.heads; ++h) {
        const T along = dot(w + h * z.channels, n + row * z.columns, z.channels);
        const auto gate = splat<T>(T(op.factor) * sigmoid_of(T(op.scale) * along));
        const auto at = z.o_at(o_row, h);
        const auto y_head = y.at(at);
        for_vectors<T>(
            z.dh, [&](std::int64_t i, auto part) { y_head.put(i, part, gate * load(o + at + i, part)); });
      }
    });
  });
}

void head_gate_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& op = static_cast<const HeadGateBackward&>(a.op);
    const GateRows z(a);
    const T *o = in<T>(a, 0), *n = in<T>(a, 1), *w = in<T>(a, 2), *dy = in<T>(a, 3);
    const auto d_o = out<T>(a, 0), dn = out<T>(a, 1), dw = out<T>(a, 2);
    const auto width = z.heads * z.channels;
    const auto backward_of_row = [&](std::int64_t row, T* sums) {
      const auto o_row = z.o_row(row);
      const auto dn_row = dn.at(row * z.columns);
      const T* n_row = n + row * z.columns;
      if (!dn_row.add)
        for_vectors<T>(z.columns, [&](auto i, auto part) { dn_row.put(i, part, splat<T>(0)); });
      const Out<T> more{dn_row.p, true};
      for (std::int64_t h = 0; o_row >= 0 && h < z.heads; ++h) {
        const T* w_head = w + h * z.channels;
        const auto at = z.o_at(o_row, h);
        const T g = sigmoid_of(T(op.scale) * dot(w_head, n_row, z.channels)), gate = T(op.factor) * g;
        const auto k = splat<T>(T(op.scale) * gate * (T(1) - g) * dot(o + at, dy + at, z.dh));
        for_vectors<T>(z.channels, [&](std::int64_t i, auto part) {
          more.put(i, part, k * load(w_head + i, part));
          if (sums) accumulate(sums + h * z.channels + i, part, k * load(n_row + i, part));
        });
        const auto do_head = d_o.at(at);
        for_vectors<T>(z.dh, [&](std::int64_t i, auto part) {
          do_head.put(i, part, splat<T>(gate) * load(dy + at + i, part));
        });
      }
    };
    const auto splits = row_splits<T>(a, a.in[1].shape().rows(), z.columns, width, bool(dw), backward_of_row);
    sum_partials(a, partials<T>(a), splits, width, width, dw);
  });
}

namespace {

/// The gate of each position, as forward and backward need it.
template <class T, class Op>
struct SmearRows {
  const Op& op;
  std::int64_t length, columns, channels;
  const T *u, *w, *previous;
  const std::int32_t *tokens, *previous_token;
  T lambda;
  SmearRows(const KernelArgs& a, int before)
      : op(static_cast<const Op&>(a.op)),
        length(a.in[0].shape()[1]),
        columns(a.in[0].shape()[2]),
        channels(a.in[2].shape()[1]),
        u(in<T>(a, 0)),
        w(in<T>(a, 2)),
        previous(in<T>(a, before)),
        tokens(in<std::int32_t>(a, 1)),
        previous_token(in<std::int32_t>(a, before + 1)),
        lambda(*in<T>(a, 3)) {}

  /// u of the position before `row`; null: it takes nothing.
  const T* before(std::int64_t row) const {
    const bool first = row % length == 0;
    if ((first && !previous) || tokens[row] == op.bos) return nullptr;
    const auto token = first ? previous_token[row / length] : tokens[row - 1];
    for (const int id : op.closed)
      if (token == id) return nullptr;
    return first ? previous + row / length * columns : u + (row - 1) * columns;
  }
  T gate(std::int64_t row) const { return sigmoid_of(dot(w, u + row * columns, channels)); }
};

}  // namespace

void token_smear(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const SmearRows<T, TokenSmear> z(a, 4);
    const auto y = out<T>(a, 0);
    parallel_rows(a, a.in[0].shape().rows(), z.columns, [&](std::int64_t row) {
      const auto at = row * z.columns;
      const T* before = z.before(row);
      const auto take = splat<T>(before ? z.lambda * z.gate(row) : T(0));
      const auto y_row = y.at(at);
      for_vectors<T>(z.columns, [&](std::int64_t i, auto part) {
        auto v = load(z.u + at + i, part);
        if (before) v = fma(take, load(before + i, part), v);
        y_row.put(i, part, v);
      });
    });
  });
}

void token_smear_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const SmearRows<T, TokenSmearBackward> z(a, 5);
    const T* dy = in<T>(a, 4);
    const auto du = out<T>(a, 0), dw = out<T>(a, 1), dlambda = out<T>(a, 2);
    const auto backward_of_row = [&](std::int64_t row, T* sums) {
      const auto at = row * z.columns;
      const T* before = z.before(row);
      const bool carries = row % z.length + 1 < z.length && z.before(row + 1);
      const auto carried = splat<T>(carries ? z.lambda * z.gate(row + 1) : T(0));
      const auto du_row = du.at(at);
      for_vectors<T>(z.columns, [&](std::int64_t i, auto part) {
        auto d = load(dy + at + i, part);
        if (carries) d = fma(carried, load(dy + at + z.columns + i, part), d);
        du_row.put(i, part, d);
      });
      if (!before) return;
      const T g = z.gate(row), along = g * dot(before, dy + at, z.columns);
      const auto k = splat<T>(z.lambda * (T(1) - g) * along);
      const Out<T> more{du_row.p, true};
      for_vectors<T>(z.channels, [&](std::int64_t i, auto part) {
        more.put(i, part, k * load(z.w + i, part));
        if (sums) accumulate(sums + i, part, k * load(z.u + at + i, part));
      });
      if (sums) sums[z.channels] += along;
    };
    const auto width = z.channels + 1;
    const auto splits =
        row_splits<T>(a, a.in[0].shape().rows(), z.columns, width, dw || dlambda, backward_of_row);
    sum_partials(a, partials<T>(a), splits, width, z.channels, dw);
    sum_partials(a, partials<T>(a) + z.channels, splits, width, 1, dlambda);
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
