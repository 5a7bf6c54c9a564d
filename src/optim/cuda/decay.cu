// Weight decay that follows the step's schedule.
#include "cuda/device.cuh"

namespace fairway::optim::cuda {
namespace {

__global__ void __launch_bounds__(threads) decay_kernel(Decay u) {
  if (u.state->bad) return;
  const Piece piece = u.pieces.pieces[blockIdx.x];
  const DecayedMatrix matrix = u.matrices[piece.entry];
  const double lr = mul(u.scheduled->lr[matrix.rate], matrix.lr_factor);
  const double decay = mul(matrix.weight_decay, u.scheduled->decay_scale);
  const float keep = static_cast<float>(add(1.0, -mul(lr, decay)));
  const std::int64_t begin = matrix.begin + piece.begin;
  float* w = u.values + begin;
  for_elements(begin, piece.count, [&](auto width, int i) {
    constexpr int v = decltype(width)::value;
    Floats<v> values = load<v>(w + i);
#pragma unroll
    for (int k = 0; k < v; ++k) values.v[k] = mul(values.v[k], keep);
    store(w + i, values);
  });
}

}  // namespace

void decay_matrices(cudaStream_t stream, const Decay& u) {
  if (u.pieces.count == 0) return;
  decay_kernel<<<static_cast<unsigned>(u.pieces.count), threads, 0, stream>>>(u);
}

}  // namespace fairway::optim::cuda
