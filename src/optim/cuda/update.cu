// AdamW, Adam and SGD over ranges of the flat buffers: element by element the operations of the CPU's
// kernels, in their order.
#include "cuda/device.cuh"

namespace fairway::optim::cuda {
namespace {

struct KeepF32 {
  __device__ float operator()(float x) const { return x; }
};
struct KeepBf16 {
  __device__ float operator()(float x) const { return round_bf16(x); }
};

/// One element; the operations and their order are those of kernels::adamw_f32 and adamw_bf16.
template <class Store>
struct AdamWRule {
  UpdateScalars s;
  float clip;
  Store store;
  static constexpr bool two_moments = true;
  __device__ void operator()(float& p, float g, float& m, float& v) const {
    const float gradient = combine(g, clip, s.coupled_decay, p);
    const float first = combine(s.beta1, m, s.one_minus_beta1, gradient);
    const float second = combine(s.beta2, v, s.one_minus_beta2, mul(gradient, gradient));
    const float denominator = add(__fsqrt_rn(__fdiv_rn(second, s.correction2)), s.eps);
    const float step = mul(s.lr, __fdiv_rn(__fdiv_rn(first, s.correction1), denominator));
    p = store(add(mul(p, s.decay), -step));
    m = store(first);
    v = store(second);
  }
};

/// kernels::adam_stepwise_bf16.
struct Bf16AdamRule {
  UpdateScalars s;
  float clip;
  static constexpr bool two_moments = true;
  __device__ void operator()(float& p, float g, float& m, float& v) const {
    float gradient = round_bf16(mul(round_bf16(g), clip));
    if (s.coupled_decay != 0.0f) gradient = round_bf16(add(gradient, mul(s.coupled_decay, p)));
    const float before = s.decay != 1.0f ? round_bf16(mul(p, s.decay)) : p;
    m = round_bf16(add(m, mul(s.one_minus_beta1, add(gradient, -m))));
    v = round_bf16(add(round_bf16(mul(v, s.beta2)), mul(mul(s.one_minus_beta2, gradient), gradient)));
    const float root = round_bf16(__fdiv_rn(round_bf16(__fsqrt_rn(v)), s.root));
    const float denominator = round_bf16(add(root, s.eps));
    p = round_bf16(add(before, -mul(s.lr_corrected, __fdiv_rn(m, denominator))));
  }
};

/// kernels::sgd_f32 and sgd_stepwise_bf16; `beta1` is the momentum.
template <class Store>
struct SgdRule {
  UpdateScalars s;
  float clip;
  Store store;
  static constexpr bool two_moments = false;
  __device__ void operator()(float& p, float g, float& m, float&) const {
    const float gradient = store(mul(store(g), clip));
    m = store(add(store(mul(s.beta1, m)), gradient));
    p = store(add(p, -mul(s.lr, m)));
  }
};

template <class Rule>
__device__ inline void run_piece(const Update& u, const Piece& piece, const UpdateRange& range,
                                 const Rule& rule) {
  const std::int64_t begin = range.begin + piece.begin;
  float* p = u.values + begin;
  const float* g = u.gradients + begin;
  float* m = u.first + range.moments + piece.begin;
  float* v = u.second + range.moments + piece.begin;
  for_elements(begin, piece.count, [&](auto width, int i) {
    constexpr int w = decltype(width)::value;
    Floats<w> values = load<w>(p + i), first = load<w>(m + i), second = {};
    const Floats<w> gradient = load<w>(g + i);
    if constexpr (Rule::two_moments) second = load<w>(v + i);
#pragma unroll
    for (int k = 0; k < w; ++k) rule(values.v[k], gradient.v[k], first.v[k], second.v[k]);
    store(p + i, values);
    store(m + i, first);
    if constexpr (Rule::two_moments) store(v + i, second);
  });
}

__global__ void __launch_bounds__(threads) update_kernel(Update u) {
  if (u.state->bad) return;
  const Piece piece = u.pieces.pieces[blockIdx.x];
  const UpdateRange range = u.ranges[piece.entry];
  const UpdateScalars scalars = u.scalars[piece.entry];
  const float clip = u.state->clip;
  if (range.rule == Rule::adamw && range.bf16)
    run_piece(u, piece, range, AdamWRule<KeepBf16>{scalars, clip, {}});
  else if (range.rule == Rule::adamw)
    run_piece(u, piece, range, AdamWRule<KeepF32>{scalars, clip, {}});
  else if (range.rule == Rule::bf16_adam)
    run_piece(u, piece, range, Bf16AdamRule{scalars, clip});
  else if (range.bf16)
    run_piece(u, piece, range, SgdRule<KeepBf16>{scalars, clip, {}});
  else
    run_piece(u, piece, range, SgdRule<KeepF32>{scalars, clip, {}});
}

}  // namespace

void update_ranges(cudaStream_t stream, const Update& u) {
  if (u.pieces.count == 0) return;
  update_kernel<<<static_cast<unsigned>(u.pieces.count), threads, 0, stream>>>(u);
}

}  // namespace fairway::optim::cuda
