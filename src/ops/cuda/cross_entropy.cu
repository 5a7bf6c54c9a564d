// Cross entropy of soft-capped logits: one warp for each row, one read of the logits.
#include "cuda/launch.cuh"
#include "fairway/ops/cross_entropy.h"

namespace fairway::ops::cuda {
namespace {

/// tanh(z / cap). For bf16 logits by one exponential: its absolute error of 1e-7 is far below theirs.
template <class T>
__device__ inline float squash(float z, float inverse_cap) {
  if constexpr (sizeof(T) == 2)
    return 1.0f - __fdividef(2.0f, 1.0f + __expf(2.0f * z * inverse_cap));
  else
    return tanhf(z * inverse_cap);
}
template <class T>
__device__ inline float exponential(float x) {
  if constexpr (sizeof(T) == 2)
    return __expf(x);
  else
    return expf(x);
}

/// target[row], or -1; one outside the classes is noted.
__device__ inline int target_of(const std::int32_t* target, std::int64_t row, std::int64_t columns,
                                Fault* fault) {
  const int v = target[row];
  if (v >= -1 && v < columns) return v;
  note_fault(fault, Check::target, v, columns);
  return -1;
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward(std::int64_t rows, std::int64_t columns, float cap, float z_loss, const T* z,
            const std::int32_t* target, Fault* fault, Out<float> nll, Out<float> lse) {
  const std::int64_t row = warp_row();
  if (row >= rows) return;
  const T* z_row = z + row * columns;
  const float inverse_cap = 1 / cap;
  float greatest = -INFINITY, sum = 0;  // sum of exp(c - greatest) of this lane's classes so far
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> c = load<V>(z_row + i);
    float top = greatest;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      c.v[k] = cap * squash<T>(c.v[k], inverse_cap);
      top = fmaxf(top, c.v[k]);
    }
    sum *= exponential<T>(greatest - top);
#pragma unroll
    for (int k = 0; k < V; ++k) sum += exponential<T>(c.v[k] - top);
    greatest = top;
  }
  const float top = lane_max(greatest);
  const float total = top + logf(lane_sum(greatest == -INFINITY ? sum : sum * expf(greatest - top)));
  if (threadIdx.x % 32 != 0) return;
  const int t = target_of(target, row, columns, fault);
  lse.put(row, total);
  nll.put(row, t < 0 ? 0.0f : total - cap * squash<T>(widen(z_row[t]), inverse_cap) + z_loss * total * total);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    backward(std::int64_t rows, std::int64_t columns, float cap, float z_loss, const T* z,
             const std::int32_t* target, const float* lse, const float* dnll, Fault* fault, Out<T> dz) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  const int t = target_of(target, row, columns, fault);
  const bool scored = t >= 0 && dnll;
  const float d = scored ? dnll[row] : 0.0f, total = lse[row], inverse_cap = 1 / cap;
  const float soft = 1 + 2 * z_loss * total;  // the factor of the softmax part
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> x = scored ? load<V>(z + at + i) : filled<V>(0);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const float h = squash<T>(x.v[k], inverse_cap);
      const float p = soft * exponential<T>(cap * h - total) - (i + k == t ? 1.0f : 0.0f);
      x.v[k] = scored ? d * p * (1 - h * h) : 0.0f;
    }
    dz.put(at + i, x);
  }
}

}  // namespace

void softcap_cross_entropy(const KernelArgs& a) {
  const auto& op = static_cast<const SoftcapCrossEntropy&>(a.op);
  const Shape& z = a.in[0].shape();
  with_width(a, a.in[0], z.columns(), {data(a, 0)}, [&]<class T, int V>(T, Constant<V>) {
    launch_rows(a, z.rows(), forward<T, V>, z.rows(), z.columns(), op.cap, op.z_loss, in<T>(a, 0),
                integers(a, 1), target(a).fault, out<float>(a, 0), out<float>(a, 1));
  });
}

void softcap_cross_entropy_backward(const KernelArgs& a) {
  if (!a.out[0]) return;
  const auto& op = static_cast<const SoftcapCrossEntropyBackward&>(a.op);
  const Shape& z = a.in[0].shape();
  with_width(a, a.in[0], z.columns(), {data(a, 0), a.out[0].data}, [&]<class T, int V>(T, Constant<V>) {
    launch_rows(a, z.rows(), backward<T, V>, z.rows(), z.columns(), op.cap, op.z_loss, in<T>(a, 0),
                integers(a, 1), floats(a, 2), floats(a, 3), target(a).fault, out<T>(a, 0));
  });
}

}  // namespace fairway::ops::cuda
