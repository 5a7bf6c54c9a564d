#pragma once
// One pass over rows that also sums something per channel. A block owns a split of the rows and 32 V
// channels; its warps take rows in turn, and their sums are added in the order of the warps.

#include "cuda/launch.cuh"

namespace fairway::ops::cuda {

/// What a body adds to N sums of its V channels.
template <int V, int N>
struct Summands {
  Floats<V> of[N];
};
template <int V>
__device__ inline const Floats<V>& summand(const Floats<V>& one, int) {
  return one;
}
template <int V, int N>
__device__ inline const Floats<V>& summand(const Summands<V, N>& some, int n) {
  return some.of[n];
}

/// Elements at a time of bodies that hold several rows and sums: with four of a kind more blocks are at work on a
/// multiprocessor than with eight, and more loads on their way.
template <int V>
inline constexpr int of_many = V == 8 ? 4 : V;

/// body.begin(i), then body(row, row * columns + i, i) for each row does the work of elements i to i + V - 1
/// of a row and returns what is summed: Floats<V>, or Summands of N sums.
template <int V, int N, class Body>
__global__ void __launch_bounds__(block_threads)
    column_sum_kernel(RowSplits splits, std::int64_t columns, Body body, float* partial) {
  __shared__ float sums[block_warps][32 * V];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t tile = static_cast<std::int64_t>(blockIdx.y) * 32 * V, i = tile + lane * V;
  const std::int64_t first = blockIdx.x * splits.each, end = min(first + splits.each, splits.rows);
  Floats<V> sum[N];
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] = filled<V>(0);
  if (i < columns) {
    body.begin(i);
#pragma unroll 2
    for (std::int64_t row = first + warp; row < end; row += block_warps) {
      const auto v = body(row, row * columns + i, i);
#pragma unroll
      for (int n = 0; n < N; ++n) sum[n] += summand(v, n);
    }
  }
  if (!partial) return;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    if (n > 0) __syncthreads();
#pragma unroll
    for (int k = 0; k < V; ++k) sums[warp][lane * V + k] = sum[n].v[k];
    __syncthreads();
    for (int j = threadIdx.x; j < 32 * V && tile + j < columns; j += block_threads) {
      float total = 0;
#pragma unroll
      for (int w = 0; w < block_warps; ++w) total += sums[w][j];
      partial[(static_cast<std::int64_t>(blockIdx.x) * N + n) * columns + tile + j] = total;
    }
  }
}

/// Row i of partials(a), where sums are wanted, is those of split i: [N, columns].
template <int V, int N = 1, class Body>
void column_sums(const KernelArgs& a, const RowSplits& splits, std::int64_t columns, const Body& body,
                 bool wants_sums) {
  const dim3 grid(static_cast<unsigned>(splits.count), blocks_for(columns, 32 * V));
  column_sum_kernel<V, N><<<grid, block_threads, 0, target(a).stream>>>(splits, columns, body,
                                                                        wants_sums ? partials(a) : nullptr);
}

}  // namespace fairway::ops::cuda
