// The norm of all gradients, and what follows from it for every range.
#include "cuda/device.cuh"

namespace fairway::optim::cuda {
namespace {

constexpr int finish_threads = 1024;

__global__ void __launch_bounds__(threads)
    norm_kernel(const Piece* pieces, const TrainedRange* ranges, const float* gradients, double* partial) {
  const Piece piece = pieces[blockIdx.x];
  const std::int64_t begin = ranges[piece.entry].begin + piece.begin;
  const float* g = gradients + begin;
  double sum = 0;
  for_elements(begin, piece.count, [&](auto v, int i) { sum += squares(load<decltype(v)::value>(g + i)); });
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/// The same double operations in the same order as optim::AdamW::step and RangeOptimizer.
__device__ UpdateScalars scalars_of(const UpdateRange& r, double base_lr, std::int64_t steps) {
  const double lr = __dmul_rn(base_lr, r.lr_factor), k = static_cast<double>(steps);
  UpdateScalars s;
  s.decay = r.decoupled ? static_cast<float>(__dsub_rn(1.0, __dmul_rn(lr, r.weight_decay))) : 1.0f;
  s.coupled_decay = r.decoupled ? 0.0f : static_cast<float>(r.weight_decay);
  s.beta1 = static_cast<float>(r.beta1);
  s.one_minus_beta1 = static_cast<float>(1.0 - r.beta1);
  s.beta2 = static_cast<float>(r.beta2);
  s.one_minus_beta2 = static_cast<float>(1.0 - r.beta2);
  const double correction1 = 1.0 - pow(r.beta1, k), correction2 = 1.0 - pow(r.beta2, k);
  s.correction1 = static_cast<float>(correction1);
  s.correction2 = static_cast<float>(correction2);
  s.root = static_cast<float>(sqrt(correction2));
  s.lr_corrected = static_cast<float>(lr / correction1);
  s.eps = static_cast<float>(r.eps);
  s.lr = static_cast<float>(lr);
  return s;
}

/// One block. Each thread adds a fixed set of partial sums in order; then threads are joined in order.
__global__ void __launch_bounds__(finish_threads) finish_kernel(FinishNorm f) {
  __shared__ bool bad;
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < f.pieces; i += finish_threads) sum += f.partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    const double norm = sqrt(sum);
    // Squares of finite floats cannot overflow fp64: a sum that is not finite means an input that is not.
    bad = f.state->bad || !isfinite(sum);
    f.state->norm = norm;
    f.state->bad = bad;
    f.state->clip = f.max_norm > 0 ? static_cast<float>(fmin(1.0, f.max_norm / (norm + 1e-6))) : 1.0f;
  }
  __syncthreads();
  if (bad) return;
  if (threadIdx.x == 0 && f.ema_count && f.scheduled->ema != AverageStep::none) ++*f.ema_count;
  for (std::int64_t r = threadIdx.x; r < f.range_count; r += finish_threads) {
    const UpdateRange range = f.ranges[r];
    f.scalars[r] = scalars_of(range, f.scheduled->lr[range.rate], ++f.counters[r]);
  }
}

}  // namespace

void norm_pieces(cudaStream_t stream, const PieceTable& table, const TrainedRange* ranges,
                 const float* gradients, double* partial) {
  if (table.count == 0) return;
  norm_kernel<<<static_cast<unsigned>(table.count), threads, 0, stream>>>(table.pieces, ranges, gradients,
                                                                          partial);
}

void finish_norm(cudaStream_t stream, const FinishNorm& f) {
  finish_kernel<<<1, finish_threads, 0, stream>>>(f);
}

}  // namespace fairway::optim::cuda
