// Muon's element-wise passes (docs/spec/training.md section 4); the products between them are the library's.
#include "cuda/device.cuh"

namespace fairway::optim::cuda {
namespace {

constexpr float norm_eps = 1e-7f;

/// Momentum and direction of one element: B <- mu B + g, U = g + mu B. In bf16 as
/// docs/spec/caseops_training.md section 4.1 rounds: B <- bf16(bf16(mu B) + g), U = bf16(g + mu B).
__device__ float nesterov(bool narrow, float mu, float gradient, float& momentum) {
  if (!narrow) {
    momentum = add(mul(mu, momentum), gradient);
    return add(gradient, mul(mu, momentum));
  }
  const float g = round_bf16(gradient);
  momentum = round_bf16(add(round_bf16(mul(mu, momentum)), g));
  return round_bf16(add(g, mul(mu, momentum)));
}

template <class T>
__global__ void __launch_bounds__(threads) direction_kernel(MuonPass u) {
  if (u.state->bad) return;
  const Piece piece = u.pieces.pieces[blockIdx.x];
  const Matrix matrix = u.matrices[piece.entry];
  const std::int64_t begin = matrix.begin + piece.begin;
  const float* g = u.gradients + begin;
  float* b = u.momentum + matrix.momentum + piece.begin;
  T* x = static_cast<T*>(u.x) + matrix.workspace + piece.begin;
  const float clip = u.state->clip, mu = static_cast<float>(u.scheduled->momentum);
  double sum = 0;
  for_elements(begin, piece.count, [&](auto width, int i) {
    constexpr int w = decltype(width)::value;
    const Floats<w> gradient = load<w>(g + i);
    Floats<w> buffer = load<w>(b + i), out;
#pragma unroll
    for (int k = 0; k < w; ++k) {
      const float direction = nesterov(u.narrow_momentum, mu, mul(clip, gradient.v[k]), buffer.v[k]);
      out.v[k] = stored<T>(direction);
    }
    store(b + i, buffer);
    store(x + i, out);
    sum += squares(out);
  });
  sum = block_sum(sum);
  if (threadIdx.x == 0) u.partial[blockIdx.x] = sum;
}

/// direction_kernel with rows of length 1 (MuonEq-R, docs/spec/caseops_training.md section 4): pieces are
/// whole rows, each a warp's. The second pass makes the direction again from what the warp has just written.
template <class T>
__global__ void __launch_bounds__(threads) row_direction_kernel(MuonPass u) {
  if (u.state->bad) return;
  const Piece piece = u.pieces.pieces[blockIdx.x];
  const Matrix matrix = u.matrices[piece.entry];
  const int columns = matrix.columns, lane = static_cast<int>(threadIdx.x) % 32;
  const float clip = u.state->clip, mu = static_cast<float>(u.scheduled->momentum);
  double sum = 0;
  for (int at = static_cast<int>(threadIdx.x) / 32 * columns; at < piece.count; at += warps * columns) {
    const std::int64_t begin = matrix.begin + piece.begin + at;
    const float* g = u.gradients + begin;
    float* b = u.momentum + matrix.momentum + piece.begin + at;
    T* x = static_cast<T*>(u.x) + matrix.workspace + piece.begin + at;
    // Rows whose beginnings suit four elements at once in all three arrays; the workspace begins aligned.
    const bool wide = begin % 4 == 0 && (piece.begin + at) % 4 == 0;
    double length = 0;
    for_lanes(wide, lane, columns, [&](auto width, int i) {
      constexpr int w = decltype(width)::value;
      const Floats<w> gradient = load<w>(g + i);
      Floats<w> buffer = load<w>(b + i), out;
#pragma unroll
      for (int k = 0; k < w; ++k)
        out.v[k] = nesterov(u.narrow_momentum, mu, mul(clip, gradient.v[k]), buffer.v[k]);
      store(b + i, buffer);
      length += squares(out);
    });
#pragma unroll
    for (int half = 16; half > 0; half /= 2) length += __shfl_xor_sync(all_lanes, length, half);
    float by = static_cast<float>(sqrt(length));
    if (u.narrow_momentum) by = round_bf16(by);
    by = fmaxf(by, norm_eps);
    for_lanes(wide, lane, columns, [&](auto width, int i) {
      constexpr int w = decltype(width)::value;
      const Floats<w> gradient = load<w>(g + i), buffer = load<w>(b + i);
      Floats<w> out;
#pragma unroll
      for (int k = 0; k < w; ++k) {
        const float scaled = mul(clip, gradient.v[k]), ahead = mul(mu, buffer.v[k]);
        const float direction =
            u.narrow_momentum ? round_bf16(add(round_bf16(scaled), ahead)) : add(scaled, ahead);
        const float quotient = __fdiv_rn(direction, by);
        out.v[k] = stored<T>(u.narrow_momentum ? round_bf16(quotient) : quotient);
      }
      store(x + i, out);
      sum += squares(out);
    });
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) u.partial[blockIdx.x] = sum;
}

/// What x is divided by. Each block adds its matrix's partial sums in the same order.
template <class T>
__device__ float divisor_of(const MuonPass& u, const Matrix& matrix) {
  __shared__ float divisor;
  if (threadIdx.x < 32) {
    const double* partial = u.partial + matrix.first_piece;
    double sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < matrix.pieces; i += 32) sum += partial[i];
#pragma unroll
    for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(all_lanes, sum, half);
    const float norm = stored<T>(static_cast<float>(sqrt(sum)));
    if (threadIdx.x == 0) divisor = stored<T>(add(norm, norm_eps));
  }
  __syncthreads();
  return divisor;
}

template <class T>
__global__ void __launch_bounds__(threads) normalise_kernel(MuonPass u) {
  if (u.state->bad) return;
  const Piece piece = u.pieces.pieces[blockIdx.x];
  const Matrix matrix = u.matrices[piece.entry];
  const float divisor = divisor_of<T>(u, matrix);
  T* x = static_cast<T*>(u.x) + matrix.workspace + piece.begin;
  for_elements(piece.begin, piece.count, [&](auto width, int i) {  // workspaces are aligned
    constexpr int w = decltype(width)::value;
    Floats<w> values = load<w>(x + i);
#pragma unroll
    for (int k = 0; k < w; ++k) values.v[k] = __fdiv_rn(values.v[k], divisor);
    store(x + i, values);
  });
}

template <class T>
__global__ void __launch_bounds__(threads) apply_kernel(MuonPass u) {
  if (u.state->bad) return;
  const Piece piece = u.pieces.pieces[blockIdx.x];
  const Matrix matrix = u.matrices[piece.entry];
  const std::int64_t begin = matrix.begin + piece.begin;
  float* w = u.values + begin;
  const T* o = static_cast<const T*>(u.o) + matrix.workspace + piece.begin;
  const double lr = rules::mul(u.scheduled->lr[u.rate], matrix.lr_factor);
  const float decay = static_cast<float>(__dsub_rn(1.0, __dmul_rn(lr, u.weight_decay)));
  // In bf16 step 4 of the spec rounds, too; in f32 the shape's factor joins the rate.
  const float step = static_cast<float>(sizeof(T) == 2 ? lr : __dmul_rn(lr, matrix.shape));
  for_elements(begin, piece.count, [&](auto width, int i) {
    constexpr int v = decltype(width)::value;
    Floats<v> values = load<v>(w + i);
    const Floats<v> direction = load<v>(o + i);
#pragma unroll
    for (int k = 0; k < v; ++k) {
      float d = direction.v[k];
      if constexpr (sizeof(T) == 2) d = round_bf16(mul(d, static_cast<float>(matrix.shape)));
      values.v[k] = add(mul(values.v[k], decay), -mul(step, d));
    }
    store(w + i, values);
  });
}

}  // namespace

void muon_direction(cudaStream_t stream, const MuonPass& u) {
  const auto blocks = static_cast<unsigned>(u.pieces.count);
  if (blocks == 0) return;
  const auto kernel = u.row_norm
                          ? (u.bf16 ? row_direction_kernel<__nv_bfloat16> : row_direction_kernel<float>)
                          : (u.bf16 ? direction_kernel<__nv_bfloat16> : direction_kernel<float>);
  kernel<<<blocks, threads, 0, stream>>>(u);
}

void muon_normalise(cudaStream_t stream, const MuonPass& u) {
  const auto blocks = static_cast<unsigned>(u.pieces.count);
  if (blocks == 0) return;
  if (u.bf16)
    normalise_kernel<__nv_bfloat16><<<blocks, threads, 0, stream>>>(u);
  else
    normalise_kernel<float><<<blocks, threads, 0, stream>>>(u);
}

void muon_apply(cudaStream_t stream, const MuonPass& u) {
  const auto blocks = static_cast<unsigned>(u.pieces.count);
  if (blocks == 0) return;
  if (u.bf16)
    apply_kernel<__nv_bfloat16><<<blocks, threads, 0, stream>>>(u);
  else
    apply_kernel<float><<<blocks, threads, 0, stream>>>(u);
}

}  // namespace fairway::optim::cuda
