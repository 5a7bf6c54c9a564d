// SmearGate: each row takes from the row before it, by a gate that a few of its own channels open.
#include "fairway/ops/gates.h"

#include "cuda/column_sums.cuh"
#include "cuda/launch.cuh"

namespace fairway::ops::cuda {
namespace {

/// Tokens behind which the gate is shut; more are refused.
constexpr int most_closed = 8;

template <class T>
struct Smear {
  std::int64_t rows, length, columns, channels;
  const T *u, *previous;
  const std::int32_t *tokens, *previous_token;
  const float *w, *lambda;
  std::int32_t bos, closed[most_closed];
  int closed_count;

  /// u of the position before `row`; null: it takes nothing.
  __device__ const T* before(std::int64_t row) const {
    const Quotient q(row, length);
    const bool first = q.rest == 0;
    if ((first && !previous) || tokens[row] == bos) return nullptr;
    const std::int32_t token = first ? previous_token[q.whole] : tokens[row - 1];
    for (int i = 0; i < closed_count; ++i)
      if (token == closed[i]) return nullptr;
    return first ? previous + q.whole * columns : u + (row - 1) * columns;
  }
  /// For a whole warp.
  __device__ float gate(std::int64_t row) const {
    float along = 0;
    for (std::int64_t c = threadIdx.x % 32; c < channels; c += 32)
      along += w[c] * widen(u[row * columns + c]);
    return sigmoid(lane_sum(along));
  }
};

template <class T, int V>
__global__ void __launch_bounds__(block_threads) forward(Smear<T> z, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * z.columns;
  if (row >= z.rows) return;
  const T* before = z.before(row);
  const float take = before ? *z.lambda * z.gate(row) : 0;
  for (std::int64_t i = (threadIdx.x % 32) * V; i < z.columns; i += 32 * V) {
    Floats<V> v = load<V>(z.u + at + i);
    const Floats<V> b = before ? load<V>(before + i) : filled<V>(0);
#pragma unroll
    for (int j = 0; j < V; ++j) v.v[j] += take * b.v[j];
    y.put(at + i, v);
  }
}

/// du; keeps lambda's part and the gate's factor of each row: kept[2 row], kept[2 row + 1].
template <class T, int V>
__global__ void __launch_bounds__(block_threads) backward(Smear<T> z, const T* dy, Out<T> du, float* kept) {
  const std::int64_t row = warp_row(), at = row * z.columns;
  if (row >= z.rows) return;
  const int lane = threadIdx.x % 32;
  const T* before = z.before(row);
  float along = 0, factor = 0;
  if (before) {
    for (std::int64_t i = lane * V; i < z.columns; i += 32 * V) {
      const Floats<V> b = load<V>(before + i), d = load<V>(dy + at + i);
#pragma unroll
      for (int j = 0; j < V; ++j) along += b.v[j] * d.v[j];
    }
    const float g = z.gate(row);
    along = g * lane_sum(along);
    factor = *z.lambda * (1 - g) * along;
  }
  if (lane == 0) kept[2 * row] = along, kept[2 * row + 1] = factor;
  if (!du) return;
  const bool carries = Quotient(row, z.length).rest + 1 < z.length && z.before(row + 1) != nullptr;
  const float carried = carries ? *z.lambda * z.gate(row + 1) : 0;
  for (std::int64_t i = lane * V; i < z.columns; i += 32 * V) {
    Floats<V> d = load<V>(dy + at + i);
    const Floats<V> after = carries ? load<V>(dy + at + z.columns + i) : filled<V>(0);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      d.v[j] += carried * after.v[j];
      if (i + j < z.channels) d.v[j] += factor * z.w[i + j];
    }
    du.put(at + i, d);
  }
}

/// Channel i of dw, and lambda's gradient as the channel behind them.
template <class T>
struct Sums {
  const T* u;
  std::int64_t columns, channels;
  const float* kept;
  __device__ void begin(std::int64_t) {}
  __device__ Floats<1> operator()(std::int64_t row, std::int64_t, std::int64_t i) const {
    return {{i < channels ? kept[2 * row + 1] * widen(u[row * columns + i]) : kept[2 * row]}};
  }
};

template <class T, class Op>
Smear<T> operands(const KernelArgs& a, std::size_t before) {
  const auto& op = static_cast<const Op&>(a.op);
  const Shape& u = a.in[0].shape();
  Smear<T> z{u.rows(),
             u[1],
             u[2],
             a.in[2].shape()[1],
             in<T>(a, 0),
             in<T>(a, before),
             integers(a, 1),
             integers(a, before + 1),
             floats(a, 2),
             floats(a, 3),
             op.bos,
             {},
             static_cast<int>(op.closed.size())};
  base::check(z.closed_count <= most_closed, "a smear gate that {} tokens shut on a GPU, at most {}",
              z.closed_count, most_closed);
  for (int i = 0; i < z.closed_count; ++i) z.closed[i] = op.closed[static_cast<std::size_t>(i)];
  return z;
}

}  // namespace

void token_smear(const KernelArgs& a) {
  if (!a.out[0]) return;
  const Shape& u = a.in[0].shape();
  with_width(a, a.in[0], u[2], {data(a, 0), data(a, 4), a.out[0].data}, [&]<class T, int V>(T, Constant<V>) {
    launch_rows(a, u.rows(), forward<T, V>, operands<T, TokenSmear>(a, 4), out<T>(a, 0));
  });
}

void token_smear_backward(const KernelArgs& a) {
  const Shape& u = a.in[0].shape();
  const Output du = output(a, 0), dw = output(a, 1), dlambda = output(a, 2);
  const std::int64_t channels = a.in[2].shape()[1], width = channels + 1;
  const RowSplits p = split_rows_on_device(u.rows());
  float* kept = partials(a) + p.count * width;
  with_width(a, a.in[0], u[2], {data(a, 0), data(a, 4), data(a, 5), du.data},
             [&]<class T, int V>(T, Constant<V>) {
               launch_rows(a, u.rows(), backward<T, V>, operands<T, TokenSmearBackward>(a, 5), in<T>(a, 4),
                           out<T>(du), kept);
               if (dw || dlambda)
                 column_sums<1>(a, p, width, Sums<T>{in<T>(a, 0), u[2], channels, kept}, true);
             });
  sum_partials(target(a), partials(a), p.count, width, channels, nullptr, dw);
  sum_partials(target(a), partials(a) + channels, p.count, width, 1, nullptr, dlambda);
}

}  // namespace fairway::ops::cuda
