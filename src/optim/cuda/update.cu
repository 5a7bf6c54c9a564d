// The element-wise rules over ranges of the flat buffers.
#include "cuda/device.cuh"
#include "rules/table.h"

namespace fairway::optim::cuda {
namespace {

template <class Rule>
__device__ inline void run_piece(const Update& u, const Piece& piece, const UpdateRange& range,
                                 const rules::Scalars& scalars, float clip) {
  const std::int64_t begin = range.begin + piece.begin;
  float* p = u.values + begin;
  const float* g = u.gradients + begin;
  float* m = u.first + range.moments + piece.begin;
  float* v = u.second + range.moments + piece.begin;
  for_elements(begin, piece.count, [&](auto width, int i) {
    constexpr int w = decltype(width)::value;
    Floats<w> values = load<w>(p + i), first = load<w>(m + i), second = {};
    const Floats<w> gradient = load<w>(g + i);
    if constexpr (Rule::moments > 1) second = load<w>(v + i);
#pragma unroll
    for (int k = 0; k < w; ++k)
      Rule::apply(scalars, clip, values.v[k], gradient.v[k], first.v[k], second.v[k]);
    store(p + i, values);
    store(m + i, first);
    if constexpr (Rule::moments > 1) store(v + i, second);
  });
}

__global__ void __launch_bounds__(threads) update_kernel(Update u) {
  if (u.state->bad) return;
  const Piece piece = u.pieces.pieces[blockIdx.x];
  const UpdateRange range = u.ranges[piece.entry];
  const rules::Scalars scalars = u.scalars[piece.entry];
  const float clip = u.state->clip;
  rules::with_rule(range.rule.kind, range.rounding,
                   [&]<class Rule>(Rule) { run_piece<Rule>(u, piece, range, scalars, clip); });
}

}  // namespace

void update_ranges(cudaStream_t stream, const Update& u) {
  if (u.pieces.count == 0) return;
  update_kernel<<<static_cast<unsigned>(u.pieces.count), threads, 0, stream>>>(u);
}

}  // namespace fairway::optim::cuda
