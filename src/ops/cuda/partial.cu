// Second half of parameter gradients: the splits' partial sums, added in a fixed order.
#include "cuda/device.cuh"

namespace fairway::ops::cuda {
namespace {

constexpr int ways = 32;  // partial sums of one channel that are added side by side

__global__ void sum_kernel(const float* partial, std::int64_t splits, std::int64_t stride, std::int64_t n,
                           const float* gate, Out<float> result) {
  __shared__ float sums[ways][33];
  const int x = threadIdx.x, y = threadIdx.y;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * 32 + x;
  float sum = 0;
  if (i < n)
#pragma unroll 4
    for (std::int64_t p = y; p < splits; p += ways) sum += partial[p * stride + i];
  sums[y][x] = sum;
  for (int half = ways / 2; half > 0; half /= 2) {
    __syncthreads();
    if (y < half) sums[y][x] += sums[y + half][x];
  }
  if (y != 0 || i >= n) return;
  float total = sums[0][x];
  if (gate) {
    const float g = sigmoid(gate[i]);
    total *= g * (1 - g);
  }
  result.put(i, total);
}

__global__ void sum_all_kernel(const float* partial, std::int64_t count, Out<float> result) {
  __shared__ float sums[1024];
  float sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < count; i += 1024) sum += partial[i];
  sums[threadIdx.x] = sum;
  for (int half = 512; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) result.put(0, sums[0]);
}

}  // namespace

void sum_partials(const Target& t, const float* partial, std::int64_t splits, std::int64_t stride,
                  std::int64_t n, const float* gate, Output result) {
  if (!result) return;
  sum_kernel<<<blocks_for(n, 32), dim3(32, ways), 0, t.stream>>>(partial, splits, stride, n, gate,
                                                                 out<float>(result));
}

void sum_all_partials(const Target& t, const float* partial, std::int64_t count, Output result) {
  if (!result) return;
  sum_all_kernel<<<1, 1024, 0, t.stream>>>(partial, count, out<float>(result));
}

}  // namespace fairway::ops::cuda
