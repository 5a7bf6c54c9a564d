// Checks and times the fused query/key/value product and the backward of its epilogue: every element against
// plain sums in fp32 on the GPU (and some of those against float64 on the CPU), identical bytes on repeats,
// memory around the results untouched; medians by CUDA events over two input sets. Prints a table; exit code
// 1 on a failed check.
//   qkv_product_main [small|check|time|backward]   small: checks without the full shape; backward: the
//   backward's variants alone, checked and timed; no argument: check, then time
#include <cmath>
#include <memory>
#include <string>

#include "kernel_check.cuh"
#include "qkv_backward.cuh"
#include "qkv_product.cuh"

namespace {
using namespace fairway::ops::cuda;
using namespace fairway::bench;
using qkv::FusedQkv;

constexpr float eps = 0x1p-23F, row_scale = 0.7F;

struct Case {
  int rows, length, heads, kv_heads, depth, rope_dims;
  bool embeds, deferred;
  __host__ __device__ int slots() const { return heads + 2 * kv_heads; }
  __host__ __device__ int sums() const { return heads + kv_heads; }
  std::size_t of(int columns) const { return std::size_t(rows) * columns; }
};

/// Inputs and results of one case.
struct Set {
  Case c;
  Buffer<bf16> a, weight, ve, q, k, v, dq, dk, dv, dz, dve;
  Buffer<float> gain, rope, r, scales, rr, dgain, dscales, partial;
  Set(const Case& c, std::uint64_t seed)
      : c(c),
        a(c.of(c.depth)),
        weight(std::size_t(c.slots()) * 64 * c.depth),
        ve(c.of(c.kv_heads * 64)),
        q(c.of(c.heads * 64)),
        k(c.of(c.kv_heads * 64)),
        v(k.size()),
        dq(q.size()),
        dk(k.size()),
        dv(k.size()),
        dz(c.of(c.slots() * 64)),
        dve(k.size()),
        gain(c.heads),
        rope(std::size_t(c.length + 5) * std::max(c.rope_dims, 1)),
        r(c.rows),
        scales(2),
        rr(c.of(c.sums())),
        dgain(c.heads),
        dscales(2),
        partial(std::size_t(512) * c.sums()) {
    fill_normal(a, c.deferred ? 3 : 1, seed);
    fill_normal(weight, 1 / std::sqrt(float(c.depth)), seed + 1);
    fill_normal(ve, 1, seed + 2);
    fill_normal(dq, 1, seed + 3), fill_normal(dk, 1, seed + 4), fill_normal(dv, 1, seed + 5);
    std::vector<float> gains(c.heads), angles(rope.size()), factors(c.rows);
    for (int h = 0; h < c.heads; ++h) gains[h] = (h % 3 == 1 ? -0.6F : 1.5F) + 0.1F * float(h);
    for (int p = 0; p < c.length + 5; ++p)
      for (int i = 0; i < c.rope_dims / 2; ++i) {
        const double angle = p * std::pow(10000.0, -2.0 * i / c.rope_dims);
        angles[std::size_t(p) * c.rope_dims + i] = float(std::cos(angle));
        angles[std::size_t(p) * c.rope_dims + c.rope_dims / 2 + i] = float(std::sin(angle));
      }
    for (int i = 0; i < c.rows; ++i) factors[i] = 0.2F + 0.001F * float(i * 37 % 701);
    gain.assign(gains), rope.assign(angles), r.assign(factors), scales.assign({0.3F, -1.2F});
  }
  FusedQkv fused() const {
    FusedQkv f;
    f.rows = c.rows, f.length = c.length, f.heads = c.heads, f.kv_heads = c.kv_heads;
    f.rope_dims = c.rope_dims, f.depth = c.depth, f.eps = eps, f.row_scale = row_scale;
    f.a = a.get(), f.weight = weight.get(), f.gain = gain.get(), f.rope = rope.get();
    f.q = q.get(), f.k = k.get(), f.v = v.get(), f.rr = rr.get();
    if (c.deferred) f.r = r.get();
    if (c.embeds) f.ve = ve.get(), f.vs = scales.get(), f.w = scales.get() + 1;
    return f;
  }
  void backward() const {
    Qkv n;
    n.batch = c.rows / c.length, n.length = c.length, n.positions = c.length + 5;
    n.heads = c.heads, n.kv_heads = c.kv_heads, n.head_dim = 64, n.rope_dims = c.rope_dims;
    n.gain = gain.get(), n.rope = rope.get();
    QkvGradients g;
    g.rr = rr.get(), g.q = q.get(), g.k = k.get(), g.dq = dq.get(), g.dk = dk.get(), g.dv = dv.get();
    g.dqkv.data = dz.get(), g.dgain.data = dgain.get();
    if (c.deferred) g.row = r.get(), g.row_scale = row_scale;
    if (c.embeds) {
      n.ve = ve.get(), n.vs = scales.get(), n.w = scales.get() + 1;
      g.dve.data = dve.get(), g.dvs.data = dscales.get(), g.dw.data = dscales.get() + 1;
    }
    const int each = std::max((c.rows + 511) / 512, 8);
    g.splits = {c.rows, each, (c.rows + each - 1) / each};
    g.partial = partial.get();
    qkv_rows::backward<__nv_bfloat16>({}, n, g);
    check(cudaGetLastError(), "backward");
  }
  void poison() const {
    for (const auto* b : {&q, &k, &v, &dz, &dve}) b->poison();
    for (const auto* b : {&rr, &dgain, &dscales, &partial}) b->poison();
  }
  bool guards_intact() const {
    bool good = true;
    for (const auto* b : {&q, &k, &v, &dz, &dve}) good = good && b->guards_intact();
    for (const auto* b : {&rr, &dgain, &dscales, &partial}) good = good && b->guards_intact();
    return good;
  }
};

/// What device checks need of a Set.
struct View {
  Case c;
  const bf16 *a, *weight, *ve, *q, *k, *v, *dq, *dk, *dv, *dz, *dve;
  const float *gain, *rope, *r, *scales, *rr;
  explicit View(const Set& s)
      : c(s.c),
        a(s.a.get()),
        weight(s.weight.get()),
        ve(s.ve.get()),
        q(s.q.get()),
        k(s.k.get()),
        v(s.v.get()),
        dq(s.dq.get()),
        dk(s.dk.get()),
        dv(s.dv.get()),
        dz(s.dz.get()),
        dve(s.dve.get()),
        gain(s.gain.get()),
        rope(s.rope.get()),
        r(s.r.get()),
        scales(s.scales.get()),
        rr(s.rr.get()) {}
  __device__ float factor(int row) const { return c.deferred ? row_scale * r[row] : 1.0F; }
};

struct Mistakes {
  double difference = 0, norm = 0;  // sums of squares
  unsigned long long bad = 0;       // elements beyond the tolerance, or not a number
  unsigned long long first_bad = ~0ULL;
  unsigned long long bad_rr = 0;
};

__device__ float sum_of_warp(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xFFFFFFFF, x, lanes);
  return x;
}

/// A head of one row in a warp's lanes, columns lane and lane + 32, turned by its position's angles.
__device__ void turn(const View& s, int row, float sign, float (&x)[2]) {
  const int half = s.c.rope_dims / 2, lane = threadIdx.x;
  const float* const angles = s.rope + std::size_t(row % s.c.length) * s.c.rope_dims;
  float all[2];
  for (int part = 0; part < 2; ++part) {
    const int i = lane + 32 * part, pair = i < half ? i : i - half;
    const int partner = i < half ? i + half : i - half;
    const float from[2] = {__shfl_sync(0xFFFFFFFF, x[0], partner & 31),
                           __shfl_sync(0xFFFFFFFF, x[1], partner & 31)};
    all[part] = x[part];
    if (i >= s.c.rope_dims) continue;
    const float by = (i < half ? sign : -sign) * angles[half + pair];
    all[part] = x[part] * angles[pair] + by * (partner < 32 ? from[0] : from[1]);
  }
  x[0] = all[0], x[1] = all[1];
}

/// All lanes of a warp.
__device__ void note(Mistakes* m, float got, float want, float margin, std::size_t at) {
  const float difference = got - want;
  if (!(fabsf(difference) <= 0.008F * fabsf(want) + margin)) {
    atomicAdd(&m->bad, 1ULL);
    atomicMin(&m->first_bad, static_cast<unsigned long long>(at));
  }
  const float squares[2] = {sum_of_warp(difference * difference), sum_of_warp(want * want)};
  if (threadIdx.x == 0)
    atomicAdd(&m->difference, double(squares[0])), atomicAdd(&m->norm, double(squares[1]));
}

/// One head of one row per warp: what the product should have written there.
__global__ void compare_forward(View s, Mistakes* m) {
  const int row = blockIdx.x, slot = blockIdx.y, lane = threadIdx.x, heads = s.c.heads, kv = s.c.kv_heads;
  float x[2] = {0, 0};
  for (int part = 0; part < 2; ++part)
    for (int k = 0; k < s.c.depth; ++k)
      x[part] = fmaf(__bfloat162float(s.a[std::size_t(row) * s.c.depth + k]),
                     __bfloat162float(s.weight[(std::size_t(slot) * 64 + lane + 32 * part) * s.c.depth + k]),
                     x[part]);
  x[0] *= s.factor(row), x[1] *= s.factor(row);
  const bf16* out = s.v + (std::size_t(row) * kv + slot - heads - kv) * 64;
  if (slot < heads + kv) {
    const float rr = 1 / sqrtf(sum_of_warp(x[0] * x[0] + x[1] * x[1]) / 64 + eps);
    if (lane == 0 && !(fabsf(s.rr[std::size_t(row) * s.c.sums() + slot] - rr) <= 1e-4F * rr))
      atomicAdd(&m->bad_rr, 1ULL);
    const float by = rr * (slot < heads ? s.gain[slot] : 1);
    x[0] *= by, x[1] *= by;
    turn(s, row, 1, x);
    out = slot < heads ? s.q + (std::size_t(row) * heads + slot) * 64
                       : s.k + (std::size_t(row) * kv + slot - heads) * 64;
  } else if (s.c.embeds) {
    for (int part = 0; part < 2; ++part)
      x[part] += s.scales[0] * s.scales[1] *
                 __bfloat162float(s.ve[(std::size_t(row) * kv + slot - heads - kv) * 64 + lane + 32 * part]);
  }
  for (int part = 0; part < 2; ++part)
    note(m, __bfloat162float(out[lane + 32 * part]), x[part], 4e-3F,
         (std::size_t(row) * s.c.slots() + slot) * 64 + lane + 32 * part);
}

/// The same for dz; adds to sums[head] what the gain's gradient is, to sums[heads] the values' dv . ve.
__global__ void compare_backward(View s, Mistakes* m, double* sums) {
  const int row = blockIdx.x, slot = blockIdx.y, lane = threadIdx.x, heads = s.c.heads, kv = s.c.kv_heads;
  const bool query = slot < heads, value = slot >= heads + kv;
  const std::size_t from =
      query ? (std::size_t(row) * heads + slot) * 64 : (std::size_t(row) * kv + (slot - heads) % kv) * 64;
  const bf16* const dy = (query ? s.dq : value ? s.dv : s.dk) + from;
  float u[2] = {__bfloat162float(dy[lane]), __bfloat162float(dy[lane + 32])}, margin = 0;
  if (value) {
    if (s.c.embeds) {
      float dot = 0;
      for (int part = 0; part < 2; ++part) {
        const int i = lane + 32 * part;
        dot += u[part] * __bfloat162float(s.ve[from + i]);
        note(m, __bfloat162float(s.dve[from + i]), s.scales[0] * s.scales[1] * u[part], 0, from + i);
      }
      dot = sum_of_warp(dot);
      if (lane == 0) atomicAdd(sums + heads, double(dot));
    }
    u[0] *= s.factor(row), u[1] *= s.factor(row);
  } else {
    const float gain = query ? s.gain[slot] : 1, rr = s.rr[std::size_t(row) * s.c.sums() + slot];
    const bf16* const y = (query ? s.q : s.k) + from;
    float n[2] = {__bfloat162float(y[lane]) / gain, __bfloat162float(y[lane + 32]) / gain};
    turn(s, row, -1, u), turn(s, row, -1, n);
    const float dot = sum_of_warp(u[0] * n[0] + u[1] * n[1]);
    if (query && lane == 0) atomicAdd(sums + slot, double(dot));
    const float by = rr * s.factor(row) * gain;
    for (int part = 0; part < 2; ++part) u[part] = by * (u[part] - n[part] * dot / 64);
    margin = 2e-3F * fabsf(by);
  }
  for (int part = 0; part < 2; ++part) {
    const std::size_t at = (std::size_t(row) * s.c.slots() + slot) * 64 + lane + 32 * part;
    note(m, __bfloat162float(s.dz[at]), u[part], margin, at);
  }
}

void report(const char* what, const Case& c, const Mistakes& m, bool guards) {
  const double error = std::sqrt(m.difference / std::max(m.norm, 1e-30));
  const bool good = error < 5e-3 && m.bad == 0 && m.bad_rr == 0 && guards;
  std::printf("    %-9s error %.1e", what, error);
  if (!good) {
    const auto width = static_cast<unsigned long long>(c.slots()) * 64;
    std::printf("  FAILED: %llu wrong, first at row %llu column %llu; %llu of rr; guards %s", m.bad,
                m.first_bad / width, m.first_bad % width, m.bad_rr, guards ? "intact" : "OVERWRITTEN");
    failed = true;
  }
  std::printf("\n");
  std::fflush(stdout);
}

/// Some heads of q, from the inputs, in float64.
void check_reference(const Set& s) {
  const Case& c = s.c;
  const auto a = s.a.host(), weight = s.weight.host(), q = s.q.host();
  const auto gain = s.gain.host(), rope = s.rope.host(), r = s.r.host();
  double worst = 0;
  for (int t = 0; t < 40; ++t) {
    const int row = t * 7919 % c.rows, head = t * 5 % c.heads, half = c.rope_dims / 2;
    double x[64] = {}, squares = 0;
    for (int i = 0; i < 64; ++i) {
      for (int k = 0; k < c.depth; ++k)
        x[i] += double(__bfloat162float(a[std::size_t(row) * c.depth + k])) *
                __bfloat162float(weight[(std::size_t(head) * 64 + i) * c.depth + k]);
      if (c.deferred) x[i] *= double(row_scale) * r[row];
      squares += x[i] * x[i];
    }
    for (double& v : x) v *= gain[head] / std::sqrt(squares / 64 + eps);
    for (int i = 0; i < half; ++i) {
      const float* const angles = rope.data() + std::size_t(row % c.length) * c.rope_dims;
      const double p = x[i], o = x[i + half];
      x[i] = p * angles[i] + o * angles[half + i];
      x[i + half] = o * angles[i] - p * angles[half + i];
    }
    for (int i = 0; i < 64; ++i)
      raise(worst, std::abs(x[i] - __bfloat162float(q[(std::size_t(row) * c.heads + head) * 64 + i])) /
                       (std::abs(x[i]) + 0.1));
  }
  std::printf("    40 heads of q against float64: %.1e%s\n", worst, worst < 5e-3 ? "" : "  FAILED");
  failed = failed || !(worst < 5e-3);
}

struct Tiling {
  const char* name;
  cudaError_t (*run)(const FusedQkv&, cudaStream_t);
};

void check_sums(const Set& set, const double* sums) {
  const Case& c = set.c;
  std::vector<double> want(sums, sums + c.heads);
  auto got = set.dgain.host();
  if (c.embeds) {
    const auto scales = set.scales.host(), d = set.dscales.host();
    want.insert(want.end(), {scales[1] * sums[c.heads], scales[0] * sums[c.heads]});
    got.insert(got.end(), d.begin(), d.end());
  }
  const double margin = 1e-4 * std::sqrt(double(c.rows) * 64);
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) raise(worst, std::abs(got[i] - want[i]) / margin);
  std::printf("    dgain%s %s\n", c.embeds ? ", dvs, dw" : "", worst <= 1 ? "right" : "FAILED");
  failed = failed || !(worst <= 1);
}

/// Backward after a forward pass; then the same again.
void check_backward(const Set& set, int repeats) {
  const Case& c = set.c;
  struct Found {
    Mistakes mistakes;
    double sums[256];
  };
  Found* found = nullptr;
  check(cudaMallocManaged(&found, sizeof *found), "cudaMallocManaged");
  *found = {};
  const auto again = [&] {
    for (const auto* b : {&set.dz, &set.dve}) b->poison();
    for (const auto* b : {&set.dgain, &set.dscales, &set.partial}) b->poison();
    set.backward();
    check(cudaDeviceSynchronize(), "backward");
  };
  again();
  compare_backward<<<dim3(c.rows, c.slots()), 32>>>(View(set), &found->mistakes, found->sums);
  check(cudaDeviceSynchronize(), "compare");
  report("dz, dve", c, found->mistakes, set.guards_intact());
  check_sums(set, found->sums);
  cudaFree(found);
  const auto dz = set.dz.host(), dve = set.dve.host();
  const auto dgain = set.dgain.host(), dscales = set.dscales.host();
  for (int i = 0; i < repeats; ++i) {
    again();
    if (set.dz.same(dz) && set.dve.same(dve) && set.dgain.same(dgain) && set.dscales.same(dscales)) continue;
    std::printf("    FAILED: repeat %d gives other bytes\n", i);
    failed = true;
  }
}

void check_case(const Case& c, const Tiling& t, int repeats) {
  std::printf("  %d rows of %d, %d + 2 x %d heads, sums of %d, rope %d%s%s, %s\n", c.rows, c.length, c.heads,
              c.kv_heads, c.depth, c.rope_dims, c.embeds ? ", value embedding" : "",
              c.deferred ? ", deferred norm" : "", t.name);
  std::fflush(stdout);
  const Set set(c, 1 + c.rows);
  Mistakes* forward = nullptr;
  check(cudaMallocManaged(&forward, sizeof *forward), "cudaMallocManaged");
  *forward = {};
  check(t.run(set.fused(), nullptr), "forward");
  check(cudaDeviceSynchronize(), "forward");
  const dim3 grid(c.rows, c.slots());
  compare_forward<<<grid, 32>>>(View(set), forward);
  check(cudaDeviceSynchronize(), "compare");
  report("q, k, v", c, *forward, set.guards_intact());
  check_reference(set);
  cudaFree(forward);
  check_backward(set, repeats);
  const auto q = set.q.host(), k = set.k.host(), v = set.v.host();
  const auto rr = set.rr.host();
  for (int i = 0; i < repeats; ++i) {
    set.poison();
    check(t.run(set.fused(), nullptr), "repeat");
    check(cudaDeviceSynchronize(), "repeat");
    if (set.q.same(q) && set.k.same(k) && set.v.same(v) && set.rr.same(rr)) continue;
    std::printf("    FAILED: repeat %d gives other bytes\n", i);
    failed = true;
  }
  set.poison();
  FusedQkv some = set.fused();
  some.k = nullptr, some.rr = nullptr;
  check(t.run(some, nullptr), "without k and rr");
  check(cudaDeviceSynchronize(), "without k and rr");
  if (!set.q.same(q) || !set.v.same(v) || !set.guards_intact())
    std::printf("    FAILED: without k and rr gives other bytes\n"), failed = true;
}

/// A yardstick: two arrays in, one out, nothing else.
__global__ void __launch_bounds__(256) merge(std::size_t n, const uint4* a, const uint4* b, uint4* to) {
  constexpr int together = 4;
  const std::size_t first = std::size_t(blockIdx.x) * 256 * together + threadIdx.x;
  uint4 x[together], y[together];
#pragma unroll
  for (int u = 0; u < together; ++u)
    if (first + u * 256 < n) x[u] = __ldcs(a + first + u * 256), y[u] = __ldcs(b + first + u * 256);
#pragma unroll
  for (int u = 0; u < together; ++u)
    if (first + u * 256 < n)
      to[first + u * 256] = make_uint4(x[u].x ^ y[u].x, x[u].y ^ y[u].y, x[u].z ^ y[u].z, x[u].w ^ y[u].w);
}

void time_yardsticks(double bytes) {
  const auto n = static_cast<std::size_t>(bytes / 48), half = static_cast<std::size_t>(bytes / 2);
  const Buffer<std::uint8_t> from(2 * n * 16 + half), to(std::max(n * 16, half));
  const auto* const a = reinterpret_cast<const uint4*>(from.get());
  const double merged = median_ms(30, [&](int) {
    merge<<<unsigned((n + 1023) / 1024), 256>>>(n, a, a + n, reinterpret_cast<uint4*>(to.get()));
  });
  const double copied = median_ms(
      30, [&](int) { check(cudaMemcpyAsync(to.get(), from.get(), half, cudaMemcpyDeviceToDevice), "copy"); });
  std::printf("  as many bytes: two arrays to one %.3f ms (%.0f GB/s), copy %.3f ms (%.0f GB/s)\n", merged,
              bytes / merged * 1e-6, copied, bytes / copied * 1e-6);
}

/// What parts of the product's epilogue cost: the shipped tiling without them.
void time_parts(const Case& c) {
  const Set x(c, 77), y(c, 99);
  struct Part {
    const char* name;
    void (*leave_out)(FusedQkv&);
  };
  std::printf("%d rows: what the product takes without\n", c.rows);
  for (int round = 0; round < 2; ++round)
    for (const Part& part :
         {Part{"nothing", [](FusedQkv&) {}}, Part{"rr", [](FusedQkv& f) { f.rr = nullptr; }},
          Part{"rotation", [](FusedQkv& f) { f.rope_dims = 0; }},
          Part{"k and v", [](FusedQkv& f) { f.k = f.v = nullptr; }},
          Part{"q, k and v", [](FusedQkv& f) { f.q = f.k = f.v = nullptr; }},
          Part{"all of these",
               [](FusedQkv& f) { f.q = f.k = f.v = nullptr, f.rr = nullptr, f.rope_dims = 0; }}}) {
      const double ms = median_ms(40, [&](int i) {
        FusedQkv f = (i % 2 ? x : y).fused();
        part.leave_out(f);
        check(qkv::product<2, 8>(f, nullptr), part.name);
      });
      std::printf("  %-14s %.3f ms\n", part.name, ms);
    }
}

void time_case(const Case& c, const std::vector<Tiling>& tilings) {
  const Set x(c, 77), y(c, 99);
  for (const Set* s : {&x, &y}) check(qkv::product<2, 8>(s->fused(), nullptr), "forward");
  const double flop = 2.0 * c.rows * c.slots() * 64 * c.depth;
  const double sums = 4.0 * c.rows * c.sums(), values = c.embeds ? 2.0 * c.rows * c.kv_heads * 64 : 0;
  const double forward = 2.0 * c.rows * (c.depth + c.slots() * 64.0) + sums + values;
  const double backward = 2.0 * c.rows * 64 * (3.0 * c.heads + 5.0 * c.kv_heads) + sums + 2 * values;
  std::printf("%d rows, rope %d%s%s: %.0f GFLOP, %.0f MB forward, %.0f MB backward\n", c.rows, c.rope_dims,
              c.embeds ? ", value embedding" : "", c.deferred ? ", deferred norm" : "", flop * 1e-9,
              forward * 1e-6, backward * 1e-6);
  for (int round = 0; round < 2; ++round) {
    for (const Tiling& t : tilings) {
      const double f = median_ms(40, [&](int i) { check(t.run((i % 2 ? x : y).fused(), nullptr), "time"); });
      std::printf("  %-24s forward  %.3f ms (%.0f TFLOP/s, %.0f GB/s)\n", t.name, f, flop / f * 1e-9,
                  forward / f * 1e-6);
    }
    const double b = median_ms(40, [&](int i) { (i % 2 ? x : y).backward(); });
    std::printf("  %-24s backward %.3f ms (%.0f GB/s)\n", "", b, backward / b * 1e-6);
    std::fflush(stdout);
  }
  time_yardsticks(backward);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Tiling> tilings = {{"2 warpgroups, 8 stages", qkv::product<2, 8>},
                                       {"3 warpgroups, 6 stages", qkv::product<3, 6>}};
  const std::string mode = argc > 1 ? argv[1] : "";
  const bool small = mode == "small", only_backward = mode == "backward";
  const auto wanted = [&](const char* what) { return mode.empty() || mode == what || only_backward; };
  const auto tilings_of = [&](std::size_t most) {
    return std::vector<Tiling>(tilings.begin(), tilings.begin() + std::min(most, tilings.size()));
  };
  if (wanted("check") || small) {
    std::printf("Checks\n");
    for (const Tiling& t : tilings_of(only_backward ? 1 : 2)) {
      for (const Case& c :
           {Case{1, 1, 2, 2, 64, 0, false, false}, Case{63, 7, 2, 2, 64, 16, true, false},
            Case{65, 65, 8, 4, 512, 16, false, true}, Case{1000, 250, 8, 4, 512, 16, true, true},
            Case{130, 13, 4, 2, 192, 32, true, false}, Case{300, 100, 6, 2, 448, 64, true, true},
            Case{4097, 4097, 8, 4, 512, 64, false, false}, Case{9000, 900, 2, 2, 128, 16, false, true}})
        check_case(c, t, 3);
    }
    if (!small)
      for (const Tiling& t : tilings_of(only_backward ? 1 : 2))
        check_case({98'304, 2'048, 8, 4, 512, 16, true, true}, t, 1);
    std::printf(failed ? "checks FAILED\n" : "all checks passed\n");
  }
  if (wanted("time") && !failed) time_parts({98'304, 2'048, 8, 4, 512, 16, false, false});
  if (wanted("time") && !failed)
    for (const int rows : {98'304, 131'072})
      for (const int kind : {0, 1, 3})
        time_case({rows, 2'048, 8, 4, 512, 16, kind / 2 > 0, kind % 2 > 0},
                  tilings_of(only_backward ? 0 : 2));
  return failed ? 1 : 0;
}
