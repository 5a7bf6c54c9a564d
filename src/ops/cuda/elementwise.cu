// Operators that treat each element alone, and the weighted sum.
#include "cuda/launch.cuh"
#include "fairway/ops/activation.h"
#include "fairway/ops/cross_entropy.h"

namespace fairway::ops::cuda {
namespace {

template <class T, int V, class F, class... In>
__global__ void __launch_bounds__(block_threads) map(std::int64_t n, Out<T> y, F f, const In*... in) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x) * V;
  if (i + V <= n) {
    const auto apply = [&](auto... x) {
      Floats<V> r;
#pragma unroll
      for (int k = 0; k < V; ++k) r.v[k] = f(x.v[k]...);
      y.put(i, r);
    };
    apply(load<V>(in + i)...);
  } else {
    for (std::int64_t j = i; j < n; ++j) y.put(j, f(widen(in[j])...));
  }
}

/// Output 0 = f of the elements of inputs `i`, all of the dtype of the first.
template <class F, class... I>
void run_map(const KernelArgs& a, F f, I... i) {
  const Output y = output(a, 0);
  const std::int64_t n = a.in[0].elements();
  if (!y || n == 0) return;
  with_width(a, a.in[0], 0, {y.data, data(a, i)...}, [&]<class T, int V>(T, Constant<V>) {
    map<T, V><<<blocks_for(n, block_threads * V), block_threads, 0, target(a).stream>>>(n, out<T>(y), f,
                                                                                        in<T>(a, i)...);
  });
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Same {
  __device__ float operator()(float x) const { return x; }
};
struct Squared {
  float slope;
  __device__ float operator()(float x) const {
    const float z = x > 0 ? x : slope * x;
    return z * z;
  }
};
struct SquaredSlope {
  float below;
  __device__ float operator()(float x, float dy) const { return (x > 0 ? 2.0f : below) * x * dy; }
};
struct Times {
  const float* factor;
  __device__ float operator()(float x) const { return factor ? *factor * x : 0.0f; }
};

__global__ void copy_integer_kernel(std::int64_t n, const std::int32_t* x, std::int32_t* y, bool add) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (i < n) y[i] = add ? y[i] + x[i] : x[i];
}

template <class T>
__global__ void softcap_kernel(std::int64_t n, float cap, const T* x, Out<float> y) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (i < n) y.put(i, cap * tanhf(widen(x[i]) / cap));
}

__global__ void round_kernel(std::int64_t n, const float* from, __nv_bfloat16* to) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (i < n) narrow(from[i], to + i);
}

/// One block: a number per position is little work. Threads sum in double, then a tree.
__global__ void weighted_sum_kernel(std::int64_t n, const float* x, const float* w, Out<float> loss) {
  __shared__ double sums[1024];
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < n; i += 1024)
    sum += static_cast<double>(w[i]) * static_cast<double>(x[i]);
  sums[threadIdx.x] = sum;
  for (int half = 512; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) loss.put(0, static_cast<float>(sums[0]));
}

}  // namespace

void add(const KernelArgs& a) { run_map(a, Sum{}, 0, 1); }

void copy(const KernelArgs& a) {
  if (a.in[0].dtype() != DType::i32) return run_map(a, Same{}, 0);
  if (const Output y = output(a, 0))
    launch_elements(a, a.in[0].elements(), copy_integer_kernel, a.in[0].elements(), integers(a, 0),
                    static_cast<std::int32_t*>(y.data), y.add);
}

void leaky_relu_squared(const KernelArgs& a) {
  run_map(a, Squared{static_cast<const LeakyReluSquared&>(a.op).slope}, 0);
}
void leaky_relu_squared_backward(const KernelArgs& a) {
  const float slope = static_cast<const LeakyReluSquaredBackward&>(a.op).slope;
  run_map(a, SquaredSlope{2 * slope * slope}, 0, 1);
}

void softcap(const KernelArgs& a) {
  const std::int64_t n = a.in[0].elements();
  if (!a.out[0]) return;
  dispatch(a, a.in[0], [&]<class T>(T) {
    launch_elements(a, n, softcap_kernel<T>, n, static_cast<const Softcap&>(a.op).cap, in<T>(a, 0),
                    out<float>(a, 0));
  });
}

void weighted_sum(const KernelArgs& a) {
  if (a.out[0])
    weighted_sum_kernel<<<1, 1024, 0, target(a).stream>>>(a.in[0].elements(), floats(a, 0), floats(a, 1),
                                                          out<float>(a, 0));
}
void weighted_sum_backward(const KernelArgs& a) { run_map(a, Times{floats(a, 1)}, 0); }

void round_to_bf16(const Target& t, std::int64_t n, const float* from, void* to) {
  if (n == 0) return;
  round_kernel<<<blocks_for(n, block_threads), block_threads, 0, t.stream>>>(n, from,
                                                                             static_cast<__nv_bfloat16*>(to));
}

}  // namespace fairway::ops::cuda
