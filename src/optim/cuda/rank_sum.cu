// A rank's part of the gradient: its norm, its clip, and its place in the step's sum.
#include "cuda/device.cuh"

namespace fairway::optim::cuda {
namespace {

constexpr int finish_threads = 1024;

/// One block, in the order of finish_kernel (norm.cu).
__global__ void __launch_bounds__(finish_threads) rank_norm_kernel(AddRank a) {
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < a.pieces; i += finish_threads) sum += a.partial[i];
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum) * a.ranks;
  a.rank->norms += norm;
  if (!isfinite(sum)) a.rank->bad = 1;
  a.rank->clip = a.max_norm > 0 ? static_cast<float>(fmin(1.0, a.max_norm / (norm + 1e-6))) : 1.0f;
}

__global__ void __launch_bounds__(threads) add_rank_kernel(AddRank a) {
  const bool adds = !a.state->bad && !a.rank->bad;
  const float clip = a.rank->clip;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * piece_elements;
  const int count = static_cast<int>(a.n - begin < piece_elements ? a.n - begin : piece_elements);
  for_elements(begin, count, [&](auto width, int i) {
    constexpr int w = decltype(width)::value;
    const Floats<w> g = load<w>(a.gradients + begin + i);
    Floats<w> s = load<w>(a.sum + begin + i), none = {};
#pragma unroll
    for (int k = 0; k < w; ++k) s.v[k] = add(s.v[k], mul(clip, g.v[k]));
    if (adds) store(a.sum + begin + i, s);
    store(a.gradients + begin + i, none);
  });
}

}  // namespace

void add_rank(cudaStream_t stream, const AddRank& a) {
  rank_norm_kernel<<<1, finish_threads, 0, stream>>>(a);
  if (a.n == 0) return;
  const auto blocks = static_cast<unsigned>((a.n + piece_elements - 1) / piece_elements);
  add_rank_kernel<<<blocks, threads, 0, stream>>>(a);
}

}  // namespace fairway::optim::cuda
