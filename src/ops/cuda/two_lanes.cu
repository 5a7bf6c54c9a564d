// A block's results on two residual lanes.
#include "fairway/ops/two_lanes.h"

#include "cuda/column_sums.cuh"
#include "cuda/launch.cuh"

namespace fairway::ops::cuda {
namespace {

/// Inputs 0 to 7.
template <class T>
struct Operands {
  const T *lane[2], *branch[2];
  const float *scale[2], *rho, *weight;  ///< weight[2 branch + lane]
  explicit Operands(const KernelArgs& a)
      : lane{in<T>(a, 0), in<T>(a, 1)},
        branch{in<T>(a, 2), in<T>(a, 3)},
        scale{floats(a, 4), floats(a, 5)},
        rho(floats(a, 6)),
        weight(floats(a, 7)) {}
};

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward(std::int64_t rows, std::int64_t columns, Operands<T> z, bool join, Out<T> y0, Out<T> y1) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    const Floats<V> attended = load<V>(z.branch[0] + at + i), hidden = load<V>(z.branch[1] + at + i);
    const Floats<V> a = load<V>(z.scale[0] + i), m = load<V>(z.scale[1] + i);
    Floats<V> lane[2] = {load<V>(z.lane[0] + at + i), load<V>(z.lane[1] + at + i)};
#pragma unroll
    for (int k = 0; k < 2; ++k)
#pragma unroll
      for (int j = 0; j < V; ++j)
        lane[k].v[j] = z.rho[k] * lane[k].v[j] + z.weight[k] * (a.v[j] * attended.v[j]) +
                       z.weight[2 + k] * (m.v[j] * hidden.v[j]);
    if (join) {
#pragma unroll
      for (int j = 0; j < V; ++j) lane[0].v[j] = 0.5f * (lane[0].v[j] + lane[1].v[j]);
    } else {
      y1.put(at + i, lane[1]);
    }
    y0.put(at + i, lane[0]);
  }
}

/// Sums of a channel: d_lane . branch as 2 branch + lane, then d_lane . lane.
constexpr int sum_count = 6;

template <class T, int V>
struct Gradients {
  Operands<T> z;
  const T* dy[2];
  float half;
  bool wants_sums;
  Out<T> d_lane[2], d_branch[2];
  Floats<V> scale[2] = {};
  __device__ void begin(std::int64_t i) {
#pragma unroll
    for (int b = 0; b < 2; ++b) scale[b] = load<V>(z.scale[b] + i);
  }
  __device__ Summands<V, sum_count> operator()(std::int64_t, std::int64_t at, std::int64_t) const {
    Floats<V> d[2];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      d[k] = dy[k] ? load<V>(dy[k] + at) : filled<V>(0);
#pragma unroll
      for (int j = 0; j < V; ++j) d[k].v[j] *= half;
    }
    Summands<V, sum_count> sums;
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const Floats<V> result = wants_sums ? load<V>(z.branch[b] + at) : filled<V>(0);
      const Floats<V> lane = wants_sums ? load<V>(z.lane[b] + at) : filled<V>(0);
      Floats<V> to_lane, to_branch;
#pragma unroll
      for (int j = 0; j < V; ++j) {
        sums.of[2 * b].v[j] = d[0].v[j] * result.v[j];
        sums.of[2 * b + 1].v[j] = d[1].v[j] * result.v[j];
        sums.of[4 + b].v[j] = d[b].v[j] * lane.v[j];
        to_lane.v[j] = z.rho[b] * d[b].v[j];
        to_branch.v[j] = scale[b].v[j] * (z.weight[2 * b] * d[0].v[j] + z.weight[2 * b + 1] * d[1].v[j]);
      }
      d_lane[b].put(at, to_lane);
      d_branch[b].put(at, to_branch);
    }
    return sums;
  }
};

/// The parameters' gradients of totals [6, columns]: per channel, and six sums over all channels, each by the
/// threads of the one block in their order.
__global__ void __launch_bounds__(block_threads)
    finish(std::int64_t columns, const float* totals, const float* scale0, const float* scale1,
           const float* weight, Out<float> d_scale0, Out<float> d_scale1, Out<float> d_rho,
           Out<float> d_weight) {
  __shared__ float sums[block_threads];
  const int thread = static_cast<int>(threadIdx.x);
  for (std::int64_t i = thread; i < columns; i += block_threads)
    for (int b = 0; b < 2; ++b) {
      const float* of = totals + 2 * b * columns + i;
      (b == 0 ? d_scale0 : d_scale1).put(i, weight[2 * b] * of[0] + weight[2 * b + 1] * of[columns]);
    }
  for (int n = 0; n < sum_count; ++n) {
    const float* scale = n < 2 ? scale0 : n < 4 ? scale1 : nullptr;
    float sum = 0;
    for (std::int64_t i = thread; i < columns; i += block_threads)
      sum += totals[n * columns + i] * (scale ? scale[i] : 1.0f);
    __syncthreads();
    sums[thread] = sum;
    for (int half = block_threads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (thread < half) sums[thread] += sums[thread + half];
    }
    if (thread == 0) n < 4 ? d_weight.put(n, sums[0]) : d_rho.put(n - 4, sums[0]);
  }
}

}  // namespace

void two_lanes(const KernelArgs& a) {
  const bool join = static_cast<const TwoLanes&>(a.op).join;
  const Shape& x = a.in[0].shape();
  const Output y0 = output(a, 0), y1 = output(a, 1);
  if (!y0 && !y1) return;
  with_width(a, a.in[0], x.columns(),
             {data(a, 0), data(a, 1), data(a, 2), data(a, 3), data(a, 4), data(a, 5), y0.data, y1.data},
             [&]<class T, int V>(T, Constant<V>) {
               launch_rows(a, x.rows(), forward<T, V>, x.rows(), x.columns(), Operands<T>(a), join,
                           out<T>(y0), out<T>(y1));
             });
}

void two_lanes_backward(const KernelArgs& a) {
  const bool join = static_cast<const TwoLanesBackward&>(a.op).join;
  const Shape& x = a.in[0].shape();
  const std::int64_t columns = x.columns();
  const void *d0 = data(a, 8), *d1 = join ? d0 : data(a, 9);
  const Output d_scale0 = output(a, 4), d_scale1 = output(a, 5), d_rho = output(a, 6),
               d_weight = output(a, 7);
  const bool wants_sums = d_scale0 || d_scale1 || d_rho || d_weight;
  const RowSplits p = split_rows_on_device(x.rows());
  const auto run = [&]<class T, int Widest>(T, Constant<Widest>) {
    constexpr int V = of_many<Widest>;
    const Gradients<T, V> body{Operands<T>(a),
                               {static_cast<const T*>(d0), static_cast<const T*>(d1)},
                               join ? 0.5f : 1.0f,
                               wants_sums,
                               {out<T>(a, 0), out<T>(a, 1)},
                               {out<T>(a, 2), out<T>(a, 3)}};
    column_sums<V, sum_count>(a, p, columns, body, wants_sums);
  };
  with_width(a, a.in[0], columns,
             {data(a, 0), data(a, 1), data(a, 2), data(a, 3), data(a, 4), data(a, 5), d0, d1,
              output(a, 0).data, output(a, 1).data, output(a, 2).data, output(a, 3).data},
             run);
  if (!wants_sums) return;
  const std::int64_t width = sum_count * columns;
  float* totals = partials(a) + p.count * width;
  sum_partials(target(a), partials(a), p.count, width, width, nullptr, {totals, false});
  finish<<<1, block_threads, 0, target(a).stream>>>(columns, totals, floats(a, 4), floats(a, 5), floats(a, 7),
                                                    out<float>(d_scale0), out<float>(d_scale1),
                                                    out<float>(d_rho), out<float>(d_weight));
}

}  // namespace fairway::ops::cuda
