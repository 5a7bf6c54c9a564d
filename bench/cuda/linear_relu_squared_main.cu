// Checks and times the fused products around the MLP's activation: every element against plain sums in fp32
// on the GPU (and those against float64 on the CPU), act against f(h) bit by bit, identical bytes on repeats,
// memory around the results untouched; medians by CUDA events over two input sets. Prints a table; exit code
// 1 on a failed check.
//   linear_relu_squared_main [small|check|time]   small: checks without the full shape; no argument: check,
//   then time
#include <cmath>

#include "kernel_check.cuh"
#include "linear_relu_squared.cuh"

namespace {
using namespace fairway::ops::cuda;
using namespace fairway::bench;
using square::SquareShape;

struct Mistakes {
  double difference = 0, norm = 0;  // sums of squares
  unsigned long long bad = 0;       // elements beyond the tolerance, or not a number
  unsigned long long first_bad = ~0ULL;
  unsigned long long act_differs = 0;
};

/// h, act or dh as plain sums, compared with what the fused kernel wrote. One thread per element.
__global__ void compare(bool backward, SquareShape s, const bf16* a, const bf16* w, const bf16* h,
                        const bf16* out, const bf16* before, Mistakes* m) {
  const int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 8 + threadIdx.y;
  if (row >= s.m || column >= s.n) return;
  const std::size_t at = std::size_t(row) * s.n + column;
  float sum = 0;
  for (int k = 0; k < s.k; ++k) {
    const bf16 weight = backward ? w[std::size_t(k) * s.n + column] : w[std::size_t(column) * s.k + k];
    sum = fmaf(__bfloat162float(a[std::size_t(row) * s.k + k]), __bfloat162float(weight), sum);
  }
  const float hv = __bfloat162float(h[at]);
  float want = sum, got = hv;
  if (backward) {
    want = sum * hv * (hv > 0 ? 2.0F : 2 * s.slope * s.slope);
    if (before) want += __bfloat162float(before[at]);
    got = __bfloat162float(out[at]);
  } else if (out) {
    const float z = hv > 0 ? hv : s.slope * hv;
    const bf16 act = __float2bfloat16(z * z);
    if (__bfloat16_as_ushort(act) != __bfloat16_as_ushort(out[at])) atomicAdd(&m->act_differs, 1ULL);
  }
  const float difference = got - want, margin = before ? fabsf(__bfloat162float(before[at])) : 0;
  if (!(fabsf(difference) <= 0.01F * (fabsf(want) + margin) + 0.01F)) {
    atomicAdd(&m->bad, 1ULL);
    atomicMin(&m->first_bad, static_cast<unsigned long long>(at));
  }
  // A warp is a piece of one row: all lanes are here, or none.
  double sums[2] = {double(difference) * difference, double(want) * want};
  for (double& x : sums)
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xFFFFFFFF, x, lanes);
  if (threadIdx.x == 0) atomicAdd(&m->difference, sums[0]), atomicAdd(&m->norm, sums[1]);
}

struct Tiling {
  const char* name;
  decltype(&square::forward<2, 8>) forward;
  decltype(&square::backward<2, 8>) backward;
};
template <int Groups, int Stages>
Tiling tiling(const char* name) {
  return {name, square::forward<Groups, Stages>, square::backward<Groups, Stages>};
}

struct Set {
  SquareShape s;
  Buffer<bf16> y, w_up, w_down, h, act, dh;
  Set(const SquareShape& shape, std::uint64_t seed)
      : s(shape),
        y(std::size_t(s.m) * s.k),
        w_up(std::size_t(s.n) * s.k),
        w_down(std::size_t(s.k) * s.n),
        h(std::size_t(s.m) * s.n),
        act(h.size()),
        dh(h.size()) {
    fill_normal(y, 1, seed);
    fill_normal(w_up, 1 / std::sqrt(float(s.k)), seed + 1);
    fill_normal(w_down, 1 / std::sqrt(float(s.k)), seed + 2);
  }
  void forward(const Tiling& t) const {
    check(t.forward(s, y.get(), w_up.get(), h.get(), act.get(), nullptr), "forward");
  }
  void backward(const Tiling& t, bool add = false) const {
    check(t.backward(s, y.get(), w_down.get(), h.get(), dh.get(), add, nullptr), "backward");
  }
};

void report(const char* what, const Set& set, bool backward, const bf16* before) {
  const SquareShape& s = set.s;
  Mistakes* m = nullptr;
  check(cudaMallocManaged(&m, sizeof *m), "cudaMallocManaged");
  *m = {};
  compare<<<dim3((s.n + 31) / 32, (s.m + 7) / 8), dim3(32, 8)>>>(
      backward, s, set.y.get(), backward ? set.w_down.get() : set.w_up.get(), set.h.get(),
      backward ? set.dh.get() : set.act.get(), before, m);
  check(cudaDeviceSynchronize(), "compare");
  const double error = std::sqrt(m->difference / std::max(m->norm, 1e-30));
  const bool guards = set.h.guards_intact() && set.act.guards_intact() && set.dh.guards_intact();
  const bool good = error < 5e-3 && m->bad == 0 && m->act_differs == 0 && guards;
  std::printf("    %-13s error %.1e", what, error);
  if (!good) {
    std::printf(
        "  FAILED: %llu of %zu wrong, first at row %llu column %llu; act differs from f(h) %llu "
        "times; guards %s",
        m->bad, set.h.size(), m->first_bad / s.n, m->first_bad % s.n, m->act_differs,
        guards ? "intact" : "OVERWRITTEN");
    failed = true;
  }
  std::printf("\n");
  std::fflush(stdout);
  cudaFree(m);
}

/// The plain sums themselves, at a few elements, in float64.
void check_reference(const Set& set) {
  const auto a = set.y.host(), up = set.w_up.host(), h = set.h.host();
  double worst = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    const std::size_t row = i * 7919 % set.s.m, column = i * 104729 % set.s.n;
    double sum = 0;
    for (int k = 0; k < set.s.k; ++k)
      sum += double(__bfloat162float(a[row * set.s.k + k])) * __bfloat162float(up[column * set.s.k + k]);
    raise(worst, std::abs(sum - __bfloat162float(h[row * set.s.n + column])) / (std::abs(sum) + 0.1));
  }
  std::printf("    1000 elements of h against float64: %.1e%s\n", worst, worst < 5e-3 ? "" : "  FAILED");
  failed = failed || !(worst < 5e-3);
}

void check_case(const SquareShape& s, const Tiling& t, int repeats) {
  std::printf("  %d x %d x %d, %s\n", s.m, s.n, s.k, t.name);
  std::fflush(stdout);
  Set set(s, 1 + s.m);
  set.forward(t);
  check(cudaDeviceSynchronize(), "forward");
  report("h, act", set, false, nullptr);
  check_reference(set);
  set.backward(t);
  check(cudaDeviceSynchronize(), "backward");
  report("dh", set, true, nullptr);
  const auto h = set.h.host(), act = set.act.host(), dh = set.dh.host();
  for (int i = 0; i < repeats; ++i) {
    set.h.poison(), set.act.poison(), set.dh.poison();
    set.forward(t);
    set.backward(t);
    check(cudaDeviceSynchronize(), "repeat");
    if (set.h.same(h) && set.act.same(act) && set.dh.same(dh)) continue;
    std::printf("    FAILED: repeat %d gives other bytes\n", i);
    failed = true;
  }
  Buffer<bf16> before(set.dh.size());
  fill_normal(before, 1, 99);
  check(cudaMemcpy(set.dh.get(), before.get(), before.size() * 2, cudaMemcpyDeviceToDevice), "copy");
  set.backward(t, true);
  check(cudaDeviceSynchronize(), "backward, added");
  report("dh, added", set, true, before.get());
  // In the memory of h, as a memory plan may do.
  check(t.backward(s, set.y.get(), set.w_down.get(), set.h.get(), set.h.get(), false, nullptr), "in place");
  check(cudaDeviceSynchronize(), "in place");
  if (!set.h.same(dh)) std::printf("    FAILED: in place of h gives other bytes\n"), failed = true;
  set.h.poison();
  check(t.forward(s, set.y.get(), set.w_up.get(), nullptr, set.h.get(), nullptr), "act alone");
  check(cudaDeviceSynchronize(), "act alone");
  if (!set.h.same(act)) std::printf("    FAILED: act alone gives other bytes\n"), failed = true;
}

void time_case(const SquareShape& s, const std::vector<Tiling>& tilings) {
  const Set a(s, 77), b(s, 99);
  const double flop = 2.0 * s.m * s.n * s.k;
  const double bytes = 2.0 * s.m * (s.k + 2.0 * s.n) + 2.0 * s.n * s.k;  // the same both ways
  std::printf("%d x %d x %d: %.0f GFLOP, %.0f MB each way\n", s.m, s.n, s.k, flop * 1e-9, bytes * 1e-6);
  for (int round = 0; round < 2; ++round)
    for (const Tiling& t : tilings) {
      a.forward(t), b.forward(t);
      const double f = median_ms(40, [&](int i) { (i % 2 ? a : b).forward(t); });
      const double w = median_ms(40, [&](int i) { (i % 2 ? a : b).backward(t); });
      const double one = median_ms(40, [&](int i) {
        const Set& x = i % 2 ? a : b;
        check(t.forward(s, x.y.get(), x.w_up.get(), nullptr, x.act.get(), nullptr), "act alone");
      });
      std::printf(
          "  %-34s forward %.3f ms (%.0f TFLOP/s, %.0f GB/s)  backward %.3f ms (%.0f TFLOP/s, %.0f "
          "GB/s)  act alone %.3f ms\n",
          t.name, f, flop / f * 1e-9, bytes / f * 1e-6, w, flop / w * 1e-9, bytes / w * 1e-6, one);
      std::fflush(stdout);
    }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Tiling> tilings = {tiling<3, 6>("3 warpgroups, 6 stages"),
                                       tiling<2, 8>("2 warpgroups, 8 stages")};
  const auto wanted = [&](const char* what) { return argc < 2 || std::strcmp(argv[1], what) == 0; };
  const bool small = argc > 1 && std::strcmp(argv[1], "small") == 0;
  if (wanted("check") || small) {
    std::printf("Checks\n");
    for (const Tiling& t : tilings) {
      for (const SquareShape& s :
           {SquareShape{1, 128, 64, 0.5F}, SquareShape{64, 256, 128, 0.5F}, SquareShape{1, 1536, 512, 0.5F},
            SquareShape{130, 1536, 512, 0.5F}, SquareShape{300, 384, 192, 0.0F},
            SquareShape{4097, 1536, 512, 0.5F}, SquareShape{9000, 256, 64, 0.5F}})
        check_case(s, t, 3);
    }
    if (!small)
      for (const Tiling& t : tilings) check_case({98'304, 1536, 512, 0.5F}, t, 1);
    std::printf(failed ? "checks FAILED\n" : "all checks passed\n");
  }
  if (wanted("time") && !failed) time_case({98'304, 1536, 512, 0.5F}, tilings);
  return failed ? 1 : 0;
}
