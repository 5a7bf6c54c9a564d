// Operators that treat each element alone, and the weighted sum.
#include "cuda/device.cuh"

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

template <class F, class... In>
void run_map(const Target& t, Storage storage, std::int64_t n, Output y, F f, const In*... in) {
  if (!y || n == 0) return;
  with_width(storage, 0, {y.data, in...}, [&](auto zero, auto width) {
    using T = decltype(zero);
    constexpr int v = decltype(width)::value;
    map<T, v><<<blocks_for(n, block_threads * v), block_threads, 0, t.stream>>>(n, out<T>(y), f,
                                                                                static_cast<const T*>(in)...);
  });
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Same {
  __device__ float operator()(float x) const { return x; }
};
struct LeakyReluSquared {
  float slope;
  __device__ float operator()(float x) const {
    const float z = x > 0 ? x : slope * x;
    return z * z;
  }
};
struct LeakyReluSquaredSlope {
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

void add(const Target& t, Storage s, std::int64_t n, const void* a, const void* b, Output y) {
  run_map(t, s, n, y, Sum{}, a, b);
}
void copy(const Target& t, Storage s, std::int64_t n, const void* x, Output y) {
  run_map(t, s, n, y, Same{}, x);
}
void copy_integers(const Target& t, std::int64_t n, const std::int32_t* x, Output y) {
  if (!y || n == 0) return;
  copy_integer_kernel<<<blocks_for(n, block_threads), block_threads, 0, t.stream>>>(
      n, x, static_cast<std::int32_t*>(y.data), y.add);
}
void leaky_relu_squared(const Target& t, Storage s, std::int64_t n, float slope, const void* x, Output y) {
  run_map(t, s, n, y, LeakyReluSquared{slope}, x);
}
void leaky_relu_squared_backward(const Target& t, Storage s, std::int64_t n, float slope, const void* x,
                                 const void* dy, Output dx) {
  run_map(t, s, n, dx, LeakyReluSquaredSlope{2 * slope * slope}, x, dy);
}
void softcap(const Target& t, Storage s, std::int64_t n, float cap, const void* x, Output y) {
  if (!y || n == 0) return;
  with_storage(s, [&](auto zero) {
    using T = decltype(zero);
    softcap_kernel<<<blocks_for(n, block_threads), block_threads, 0, t.stream>>>(
        n, cap, static_cast<const T*>(x), out<float>(y));
  });
}
void weighted_sum(const Target& t, std::int64_t n, const float* x, const float* w, Output loss) {
  if (!loss) return;
  weighted_sum_kernel<<<1, 1024, 0, t.stream>>>(n, x, w, out<float>(loss));
}
void weighted_sum_backward(const Target& t, std::int64_t n, const float* w, const float* dloss, Output dx) {
  run_map(t, Storage::f32, n, dx, Times{dloss}, static_cast<const void*>(w));
}
void round_to_bf16(const Target& t, std::int64_t n, const float* from, void* to) {
  if (n == 0) return;
  round_kernel<<<blocks_for(n, block_threads), block_threads, 0, t.stream>>>(n, from,
                                                                             static_cast<__nv_bfloat16*>(to));
}

}  // namespace fairway::ops::cuda
