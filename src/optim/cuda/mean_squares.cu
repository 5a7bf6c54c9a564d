// Sums of squares of pieces become each matrix's mean, added to those of the steps before.
#include "cuda/device.cuh"

namespace fairway::optim::cuda {
namespace {

/// One warp for each matrix: each lane adds a fixed set of pieces in order, then lanes are joined in order.
__global__ void __launch_bounds__(32) mean_squares_kernel(MeanSquaresPass p) {
  if (p.state->bad) return;
  const SquaredMatrix matrix = p.matrices[blockIdx.x];
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < matrix.pieces; i += 32) sum += p.partial[matrix.first_piece + i];
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  p.sums[blockIdx.x] += sum / matrix.elements;
  if (blockIdx.x == 0) p.sums[p.count] += 1;
}

}  // namespace

void add_mean_squares(cudaStream_t stream, const MeanSquaresPass& p) {
  if (p.count == 0) return;
  mean_squares_kernel<<<static_cast<unsigned>(p.count), 32, 0, stream>>>(p);
}

}  // namespace fairway::optim::cuda
