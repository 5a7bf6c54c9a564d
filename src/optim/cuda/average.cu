// Weight averages over the flat buffer; see average.h for the rules.
#include "cuda/device.cuh"

namespace fairway::optim::cuda {
namespace {

__device__ inline int block_count(std::int64_t n, std::int64_t begin) {
  return static_cast<int>(n - begin < piece_elements ? n - begin : piece_elements);
}

unsigned blocks_for(std::int64_t n) {
  return static_cast<unsigned>((n + piece_elements - 1) / piece_elements);
}

__global__ void __launch_bounds__(threads) ema_kernel(Ema a) {
  const EmaStep action = a.scheduled->ema;
  if (a.state->bad || action == EmaStep::none) return;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * piece_elements;
  for_elements(begin, block_count(a.n, begin), [&](auto width, int i) {
    constexpr int w = decltype(width)::value;
    Floats<w> p = load<w>(a.values + begin + i);
    if (action == EmaStep::update) {
      const Floats<w> e = load<w>(a.average + begin + i);
#pragma unroll
      for (int k = 0; k < w; ++k) p.v[k] = combine(a.keep, e.v[k], a.take, p.v[k]);
    }
    if (a.bf16) {
#pragma unroll
      for (int k = 0; k < w; ++k) p.v[k] = round_bf16(p.v[k]);
    }
    store(a.average + begin + i, p);
  });
}

/// Is element i in one of the sorted ranges? There are a handful.
__device__ bool inside(const base::Range* ranges, std::int64_t count, std::int64_t i) {
  for (std::int64_t r = 0; r < count; ++r)
    if (i >= ranges[r].begin && i < ranges[r].end) return true;
  return false;
}

__global__ void __launch_bounds__(threads)
    swa_kernel(const StepState* state, std::int64_t n, const base::Range* narrow, std::int64_t ranges,
               const float* values, float* sum, const std::int64_t* count) {
  if (state->bad) return;
  const float keep = *count == 0 ? 0.0f : 1.0f;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * piece_elements;
  for_elements(begin, block_count(n, begin), [&](auto width, int i) {
    constexpr int w = decltype(width)::value;
    Floats<w> s = load<w>(sum + begin + i);
    const Floats<w> p = load<w>(values + begin + i);
#pragma unroll
    for (int k = 0; k < w; ++k) {
      s.v[k] = combine(keep, s.v[k], 1.0f, p.v[k]);
      if (inside(narrow, ranges, begin + i + k)) s.v[k] = round_bf16(s.v[k]);
    }
    store(sum + begin + i, s);
  });
}

/// A kernel of its own: all blocks of the sum read the count first.
__global__ void count_kernel(const StepState* state, std::int64_t* count) {
  if (!state->bad) ++*count;
}

__global__ void __launch_bounds__(threads) round_kernel(std::int64_t n, float* values) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * piece_elements;
  for (std::int64_t i = begin + threadIdx.x; i < begin + block_count(n, begin); i += threads)
    values[i] = round_bf16(values[i]);
}

}  // namespace

void ema_update(cudaStream_t stream, const Ema& a) {
  if (a.n > 0) ema_kernel<<<blocks_for(a.n), threads, 0, stream>>>(a);
}

void swa_add(cudaStream_t stream, const StepState* state, std::int64_t n, const base::Range* narrow,
             std::int64_t ranges, const float* values, float* sum, const std::int64_t* count) {
  if (n > 0) swa_kernel<<<blocks_for(n), threads, 0, stream>>>(state, n, narrow, ranges, values, sum, count);
}

void swa_count_up(cudaStream_t stream, const StepState* state, std::int64_t* count) {
  count_kernel<<<1, 1, 0, stream>>>(state, count);
}

void round_values(cudaStream_t stream, std::int64_t n, float* values) {
  if (n > 0) round_kernel<<<blocks_for(n), threads, 0, stream>>>(n, values);
}

}  // namespace fairway::optim::cuda
