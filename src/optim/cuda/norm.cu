// The norm of all gradients, and what follows from it for every range.
#include "cuda/device.cuh"

namespace fairway::optim::cuda {
namespace {

constexpr int finish_threads = 1024;

__global__ void __launch_bounds__(threads)
    norm_kernel(const Piece* pieces, const std::int64_t* begins, const float* gradients, double* partial) {
  const Piece piece = pieces[blockIdx.x];
  const std::int64_t begin = begins[piece.entry] + piece.begin;
  const float* g = gradients + begin;
  double sum = 0;
  for_elements(begin, piece.count, [&](auto v, int i) { sum += squares(load<decltype(v)::value>(g + i)); });
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/// One block. Each thread adds a fixed set of partial sums in order; then threads are joined in order.
__global__ void __launch_bounds__(finish_threads) finish_kernel(FinishNorm f) {
  __shared__ bool bad;
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < f.pieces; i += finish_threads) sum += f.partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    const double norm = f.rank ? f.rank->norms / f.ranks : sqrt(sum);
    // Squares of finite floats cannot overflow fp64: a sum that is not finite means an input that is not.
    bad = f.state->bad || !isfinite(norm) || (f.rank && f.rank->bad);
    f.state->norm = norm;
    f.state->bad = bad;
    f.state->clip =
        f.max_norm > 0 && !f.rank ? static_cast<float>(fmin(1.0, f.max_norm / (norm + 1e-6))) : 1.0f;
  }
  __syncthreads();
  if (bad) return;
  if (threadIdx.x == 0 && f.ema_count && f.scheduled->ema != EmaStep::none) ++*f.ema_count;
  for (std::int64_t r = threadIdx.x; r < f.range_count; r += finish_threads) {
    const UpdateRange range = f.ranges[r];
    const double lr = rules::mul(f.scheduled->lr[range.rate], range.lr_factor);
    f.scalars[r] = rules::scalars_of(range.rule, lr, ++f.counters[r]);
  }
}

}  // namespace

void norm_pieces(cudaStream_t stream, const PieceTable& table, const std::int64_t* begins,
                 const float* gradients, double* partial) {
  if (table.count == 0) return;
  norm_kernel<<<static_cast<unsigned>(table.count), threads, 0, stream>>>(table.pieces, begins, gradients,
                                                                          partial);
}

void finish_norm(cudaStream_t stream, const FinishNorm& f) {
  finish_kernel<<<1, finish_threads, 0, stream>>>(f);
}

}  // namespace fairway::optim::cuda
