// The learned gates of the CaseOps systems: a warp for each row.
#include "fairway/ops/gates.h"

#include "cuda/column_sums.cuh"
#include "cuda/launch.cuh"

namespace fairway::ops::cuda {
namespace {

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    skip_forward(std::int64_t rows, std::int64_t columns, const T* x, const T* s, const float* w,
                 const float* gate, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> v = load<V>(x + at + i);
    const Floats<V> from = load<V>(s + at + i), scale = load<V>(w + i), z = load<V>(gate + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float g = sigmoid(z.v[j]);
      v.v[j] = g * v.v[j] + (1 - g) * (scale.v[j] * from.v[j]);
    }
    y.put(at + i, v);
  }
}

/// dx and ds; sums s . dy and (x - w . s) . dy.
template <class T, int V>
struct SkipGradients {
  const T *x, *s, *dy;
  const float *w, *gate;
  Out<T> dx, ds;
  Floats<V> scale{}, g{};
  __device__ void begin(std::int64_t i) {
    scale = load<V>(w + i), g = load<V>(gate + i);
#pragma unroll
    for (int j = 0; j < V; ++j) g.v[j] = sigmoid(g.v[j]);
  }
  __device__ Summands<V, 2> operator()(std::int64_t, std::int64_t at, std::int64_t) const {
    const Floats<V> d = load<V>(dy + at), now = load<V>(x + at), from = load<V>(s + at);
    Summands<V, 2> sums;
    Floats<V> to_x, to_s;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      sums.of[0].v[j] = from.v[j] * d.v[j];
      sums.of[1].v[j] = (now.v[j] - scale.v[j] * from.v[j]) * d.v[j];
      to_x.v[j] = g.v[j] * d.v[j];
      to_s.v[j] = (1 - g.v[j]) * scale.v[j] * d.v[j];
    }
    dx.put(at, to_x);
    ds.put(at, to_s);
    return sums;
  }
};

__global__ void __launch_bounds__(block_threads)
    skip_finish(std::int64_t columns, std::int64_t splits, const float* partial, const float* gate,
                Out<float> dw, Out<float> dgate) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (i >= columns) return;
  float along = 0, across = 0;
  for (std::int64_t p = 0; p < splits; ++p) {
    along += partial[2 * p * columns + i];
    across += partial[(2 * p + 1) * columns + i];
  }
  const float g = sigmoid(gate[i]);
  dw.put(i, (1 - g) * along);
  dgate.put(i, g * (1 - g) * across);
}

}  // namespace

void gated_skip(const KernelArgs& a) {
  if (!a.out[0]) return;
  const Shape& x = a.in[0].shape();
  with_width(a, a.in[0], x.columns(), {data(a, 0), data(a, 1), data(a, 2), data(a, 3), a.out[0].data},
             [&]<class T, int V>(T, Constant<V>) {
               launch_rows(a, x.rows(), skip_forward<T, V>, x.rows(), x.columns(), in<T>(a, 0), in<T>(a, 1),
                           floats(a, 2), floats(a, 3), out<T>(a, 0));
             });
}

void gated_skip_backward(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  const std::int64_t columns = x.columns();
  const Output dx = output(a, 0), ds = output(a, 1), dw = output(a, 2), dgate = output(a, 3);
  const RowSplits p = split_rows_on_device(x.rows());
  with_width(a, a.in[0], columns,
             {data(a, 0), data(a, 1), data(a, 2), data(a, 3), data(a, 4), dx.data, ds.data},
             [&]<class T, int V>(T, Constant<V>) {
               const SkipGradients<T, V> body{in<T>(a, 0),  in<T>(a, 1), in<T>(a, 4), floats(a, 2),
                                              floats(a, 3), out<T>(dx),  out<T>(ds)};
               column_sums<V, 2>(a, p, columns, body, dw || dgate);
             });
  if (dw || dgate)
    launch_elements(a, columns, skip_finish, columns, p.count, partials(a), floats(a, 3), out<float>(dw),
                    out<float>(dgate));
}

namespace {

/// Heads that a warp has at a time: lane h knows the gate of head first + h.
constexpr int gate_heads = 32;

struct GateShape {
  std::int64_t rows, queries, positions, heads, dh, columns, channels;
  float scale, factor;
  /// The row of o that belongs to row `row` of n; -1: it has no output.
  __device__ std::int64_t o_row(std::int64_t row) const {
    const Quotient q(row, positions);
    const std::int64_t query = q.rest - (positions - queries);
    return query < 0 ? -1 : q.whole * queries + query;
  }
  __device__ std::int64_t n_row(std::int64_t o_row) const {
    const Quotient q(o_row, queries);
    return q.whole * positions + positions - queries + q.rest;
  }
};

template <class T>
__device__ float gate_of(const GateShape& z, const T* n_row, const float* w, std::int64_t head) {
  if (head >= z.heads) return 0;
  float along = 0;
  for (std::int64_t c = 0; c < z.channels; ++c) along += w[head * z.channels + c] * widen(n_row[c]);
  return sigmoid(z.scale * along);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    gate_forward(GateShape z, const T* o, const T* n, const float* w, Out<T> y) {
  const std::int64_t row = warp_row();
  const int lane = threadIdx.x % 32;
  const std::int64_t o_row = row < z.rows ? z.o_row(row) : -1;
  if (o_row < 0) return;
  for (std::int64_t first = 0; first < z.heads; first += gate_heads) {
    const float mine = z.factor * gate_of(z, n + row * z.columns, w, first + lane);
    const std::int64_t width = min(z.heads - first, std::int64_t{gate_heads}) * z.dh;
    const std::int64_t at = (o_row * z.heads + first) * z.dh;
    for (std::int64_t base = 0; base < width; base += 32 * V) {  // all lanes, for the shuffle
      const std::int64_t i = base + lane * V;
      const float gate = __shfl_sync(all_lanes, mine, i < width ? static_cast<int>(i / z.dh) : 0);
      if (i >= width) continue;
      Floats<V> v = load<V>(o + at + i);
#pragma unroll
      for (int j = 0; j < V; ++j) v.v[j] *= gate;
      y.put(at + i, v);
    }
  }
}

/// do and dn of a row of n; `k` keeps each head's factor for dw.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    gate_backward(GateShape z, const T* o, const T* n, const float* w, const T* dy, Out<T> d_o, Out<T> dn,
                  float* k) {
  const std::int64_t row = warp_row();
  const int lane = threadIdx.x % 32;
  if (row >= z.rows) return;
  const std::int64_t o_row = z.o_row(row), n_at = row * z.columns;
  for (std::int64_t first = 0; first < z.heads; first += gate_heads) {
    const int heads = static_cast<int>(min(z.heads - first, std::int64_t{gate_heads}));
    const float g = o_row < 0 ? 0 : gate_of(z, n + n_at, w, first + lane);
    float mine = 0;
    for (int h = 0; o_row >= 0 && h < heads; ++h) {
      const std::int64_t at = (o_row * z.heads + first + h) * z.dh;
      const float open = __shfl_sync(all_lanes, g, h), gate = z.factor * open;
      float along = 0;
      for (std::int64_t i = lane * V; i < z.dh; i += 32 * V) {
        Floats<V> d = load<V>(dy + at + i);
        const Floats<V> v = load<V>(o + at + i);
#pragma unroll
        for (int j = 0; j < V; ++j) along += d.v[j] * v.v[j], d.v[j] *= gate;
        d_o.put(at + i, d);
      }
      along = lane_sum(along);
      if (lane == h) mine = z.scale * gate * (1 - open) * along;
    }
    if (o_row >= 0 && lane < heads) k[o_row * z.heads + first + lane] = mine;
    if (!dn) continue;
    for (std::int64_t base = 0; base < z.columns; base += 32) {
      const std::int64_t c = base + lane;
      float sum = 0;
      for (int h = 0; h < heads && base < z.channels; ++h) {
        const float factor = __shfl_sync(all_lanes, mine, h);
        if (c < z.channels) sum += factor * w[(first + h) * z.channels + c];
      }
      const bool adds = dn.add || first > 0;
      if (c < z.columns && (!adds || (c < z.channels && o_row >= 0))) Out<T>{dn.p, adds}.put(n_at + c, sum);
    }
  }
}

template <class T>
struct GateWeightSums {
  GateShape z;
  const T* n;
  const float* k;
  __device__ void begin(std::int64_t) {}
  __device__ Floats<1> operator()(std::int64_t o_row, std::int64_t, std::int64_t i) const {
    const Quotient q(i, z.channels);
    return {{k[o_row * z.heads + q.whole] * widen(n[z.n_row(o_row) * z.columns + q.rest])}};
  }
};

template <class Op>
GateShape gate_shape(const KernelArgs& a) {
  const Shape &o = a.in[0].shape(), &n = a.in[1].shape();
  const auto& op = static_cast<const Op&>(a.op);
  return {n.rows(), o[1], n[1], o[2], o[3], n[2], a.in[2].shape()[1], op.scale, op.factor};
}

}  // namespace

void head_gate(const KernelArgs& a) {
  if (!a.out[0]) return;
  const auto z = gate_shape<HeadGate>(a);
  with_width(a, a.in[0], z.dh, {data(a, 0), a.out[0].data}, [&]<class T, int V>(T, Constant<V>) {
    launch_rows(a, z.rows, gate_forward<T, V>, z, in<T>(a, 0), in<T>(a, 1), floats(a, 2), out<T>(a, 0));
  });
}

void head_gate_backward(const KernelArgs& a) {
  const auto z = gate_shape<HeadGateBackward>(a);
  const Output d_o = output(a, 0), dn = output(a, 1), dw = output(a, 2);
  const std::int64_t width = z.heads * z.channels, o_rows = a.in[0].shape()[0] * z.queries;
  const RowSplits p = split_rows_on_device(o_rows);
  float* k = partials(a) + p.count * width;
  with_width(a, a.in[0], z.dh, {data(a, 0), data(a, 3), d_o.data}, [&]<class T, int V>(T, Constant<V>) {
    launch_rows(a, z.rows, gate_backward<T, V>, z, in<T>(a, 0), in<T>(a, 1), floats(a, 2), in<T>(a, 3),
                out<T>(d_o), out<T>(dn), k);
    if (dw) column_sums<1>(a, p, width, GateWeightSums<T>{z, in<T>(a, 1), k}, true);
  });
  sum_partials(target(a), partials(a), p.count, width, width, nullptr, dw);
}

}  // namespace fairway::ops::cuda
