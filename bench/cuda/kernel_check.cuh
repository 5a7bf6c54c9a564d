#pragma once
// What the checks and benchmarks of single kernels share: guarded device memory, reproducible contents,
// times.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

namespace fairway::bench {

using bf16 = __nv_bfloat16;

inline bool failed = false;  // a check has

/// The larger of the two; not-a-number stays.
inline void raise(double& worst, double x) {
  if (!std::isnan(worst) && !(x <= worst)) worst = x;
}

inline void check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  std::printf("FAILED: %s: %s\n", what, cudaGetErrorString(e));
  std::exit(1);
}

/// Device memory with guard zones around it.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t n) : n_(n) {
    check(cudaMalloc(&p_, (n + 2 * guard) * sizeof(T)), "cudaMalloc");
    poison();
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(p_); }
  T* get() const { return p_ + guard; }
  std::size_t size() const { return n_; }
  /// Not-a-number everywhere, so that an element nobody wrote is seen.
  void poison() const { check(cudaMemset(p_, 0xFF, (n_ + 2 * guard) * sizeof(T)), "poison"); }
  void assign(const std::vector<T>& from) const {
    check(cudaMemcpy(get(), from.data(), n_ * sizeof(T), cudaMemcpyHostToDevice), "copy in");
  }
  std::vector<T> host() const {
    std::vector<T> h(n_);
    check(cudaMemcpy(h.data(), get(), n_ * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
    return h;
  }
  bool same(const std::vector<T>& other) const {
    return std::memcmp(host().data(), other.data(), n_ * sizeof(T)) == 0;
  }
  bool guards_intact() const {
    std::vector<std::uint8_t> g(2 * guard * sizeof(T));
    check(cudaMemcpy(g.data(), p_, guard * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
    check(cudaMemcpy(g.data() + guard * sizeof(T), get() + n_, guard * sizeof(T), cudaMemcpyDeviceToHost),
          "copy out");
    return std::all_of(g.begin(), g.end(), [](auto v) { return v == 0xFF; });
  }

 private:
  static constexpr std::size_t guard = 4096;
  T* p_ = nullptr;
  std::size_t n_;
};

/// Counter-based bits (splitmix64); sums of four uniform numbers are close to normal.
static __global__ void fill(std::size_t n, float deviation, std::uint64_t seed, bf16* to) {
  const std::size_t i = std::size_t(blockIdx.x) * 256 + threadIdx.x;
  if (i >= n) return;
  std::uint64_t r = (i + 1 + (seed << 40)) * 0x9E3779B97F4A7C15ULL;
  r = (r ^ r >> 30) * 0xBF58476D1CE4E5B9ULL;
  r = (r ^ r >> 27) * 0x94D049BB133111EBULL;
  r ^= r >> 31;
  const float sum = float(r & 0xFFFF) + float(r >> 16 & 0xFFFF) + float(r >> 32 & 0xFFFF) + float(r >> 48);
  to[i] = __float2bfloat16((sum / 65536.0F - 2.0F) * 1.7320508F * deviation);
}
inline void fill_normal(const Buffer<bf16>& b, float deviation, std::uint64_t seed) {
  if (b.size() == 0) return;
  fill<<<unsigned((b.size() + 255) / 256), 256>>>(b.size(), deviation, seed, b.get());
  check(cudaGetLastError(), "fill");
}

/// work(i) for i = 0, 1, ... on the default stream, by events.
inline double median_ms(int repeats, const std::function<void(int)>& work) {
  cudaEvent_t begin{}, end{};
  cudaEventCreate(&begin), cudaEventCreate(&end);
  std::vector<float> times;
  for (int i = 0; i < repeats + 5; ++i) {
    cudaEventRecord(begin);
    work(i);
    cudaEventRecord(end);
    check(cudaEventSynchronize(end), "timing");
    float ms = 0;
    cudaEventElapsedTime(&ms, begin, end);
    if (i >= 5) times.push_back(ms);
  }
  cudaEventDestroy(begin), cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

}  // namespace fairway::bench
