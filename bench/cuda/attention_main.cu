// Checks and times the CUDA attention: errors against float64 on the CPU (odd sizes) and against the plain
// fp32 form (reference shape), identical bytes on repeats, medians by CUDA events. Prints a table; exit code
// 1 on a failed check.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "attention.h"
#include "attention_variants.h"

namespace {
using namespace fairway::ops::cuda;

void check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  std::printf("FAILED: %s: %s\n", what, cudaGetErrorString(e));
  std::exit(1);
}

template <typename T>
class Buffer {
 public:
  explicit Buffer(std::size_t n = 0) : size_(n) {
    T* p = nullptr;
    check(cudaMalloc(&p, std::max<std::size_t>(n, 1) * sizeof(T)), "cudaMalloc");
    data_.reset(p);
  }
  explicit Buffer(const std::vector<T>& host) : Buffer(host.size()) {
    check(cudaMemcpy(get(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "copy in");
  }
  T* get() const { return data_.get(); }
  std::size_t size() const { return size_; }
  /// Not-a-number everywhere, so that an element nobody wrote is seen.
  void poison() const { check(cudaMemset(get(), 0xFF, size_ * sizeof(T)), "poison"); }
  std::vector<T> host() const {
    std::vector<T> h(size_);
    check(cudaMemcpy(h.data(), get(), size_ * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
    return h;
  }

 private:
  struct Free {
    void operator()(T* p) const { cudaFree(p); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_;
};

std::size_t query_count(const AttentionShape& s) {
  return std::size_t(s.batch) * s.queries * s.heads * s.head_dim;
}
std::size_t key_count(const AttentionShape& s) {
  return std::size_t(s.batch) * s.keys * s.kv_heads * s.head_dim;
}
std::size_t row_count(const AttentionShape& s) { return std::size_t(s.batch) * s.queries * s.heads; }

std::vector<__nv_bfloat16> random_values(std::size_t n, float deviation, std::uint64_t seed) {
  std::vector<__nv_bfloat16> v(n);
  // Counter-based bits (splitmix64); sums of four uniform numbers are close to normal.
#pragma omp parallel for
  for (std::size_t i = 0; i < n; ++i) {
    std::uint64_t r = (i + 1 + (seed << 40)) * 0x9E3779B97F4A7C15ULL;
    r = (r ^ r >> 30) * 0xBF58476D1CE4E5B9ULL;
    r = (r ^ r >> 27) * 0x94D049BB133111EBULL;
    r ^= r >> 31;
    const float sum = float(r & 0xFFFF) + float(r >> 16 & 0xFFFF) + float(r >> 32 & 0xFFFF) + float(r >> 48);
    v[i] = __float2bfloat16((sum / 65536.0F - 2.0F) * 1.7320508F * deviation);
  }
  return v;
}
std::vector<float> widened(const std::vector<__nv_bfloat16>& v) {
  std::vector<float> f(v.size());
  for (std::size_t i = 0; i < v.size(); ++i) f[i] = __bfloat162float(v[i]);
  return f;
}
const std::vector<float>& widened(const std::vector<float>& v) { return v; }

/// Documents of random length.
std::vector<std::int32_t> random_segments(const AttentionShape& s, std::uint64_t seed, int mean) {
  std::mt19937_64 g(seed);
  std::vector<std::int32_t> start(std::size_t(s.batch) * s.keys);
  for (int b = 0; b < s.batch; ++b) {
    int current = 0;
    for (int p = 0; p < s.keys; ++p) {
      if (p > 0 && g() % mean == 0) current = p;
      start[std::size_t(b) * s.keys + p] = current;
    }
  }
  return start;
}

/// Each head of 64 to a mean square of 1 and times a gain, as QkvPrepare makes queries and keys. Several
/// gains: by turns, from row to row.
void normalise(std::vector<__nv_bfloat16>& v, const std::vector<float>& gains) {
#pragma omp parallel for
  for (std::size_t row = 0; row < v.size() / 64; ++row) {
    float squares = 0;
    for (std::size_t i = row * 64; i < row * 64 + 64; ++i)
      squares += __bfloat162float(v[i]) * __bfloat162float(v[i]);
    const float factor = gains[(row * 0x9E3779B97F4A7C15ULL >> 40) % gains.size()] / std::sqrt(squares / 64);
    for (std::size_t i = row * 64; i < row * 64 + 64; ++i)
      v[i] = __float2bfloat16(__bfloat162float(v[i]) * factor);
  }
}

struct Inputs {
  AttentionShape shape;
  std::vector<__nv_bfloat16> q, k, v, dout;
  std::vector<std::int32_t> segment;
  Inputs(const AttentionShape& s, int mean_segment, std::uint64_t seed)
      : shape(s),
        q(random_values(query_count(s), 1.5F, seed)),
        k(random_values(key_count(s), 1, seed + 1)),
        v(random_values(key_count(s), 1, seed + 2)),
        dout(random_values(query_count(s), 1, seed + 3)) {
    if (mean_segment > 0) segment = random_segments(s, seed + 4, mean_segment);
  }
  /// Normalised keys and queries. Aligned: some queries are their own key, or its opposite, so that scores
  /// reach their bounds.
  Inputs(const AttentionShape& s, int mean_segment, std::uint64_t seed, const std::vector<float>& gains,
         bool aligned)
      : Inputs(s, mean_segment, seed) {
    normalise(k, {1});
    for (std::size_t row = 0; aligned && row < q.size() / 64; row += 3) {
      const std::size_t h = row % s.heads, i = row / s.heads % s.queries, b = row / s.heads / s.queries;
      const std::size_t key =
          ((b * s.keys + s.keys - s.queries + i) * s.kv_heads + h / (s.heads / s.kv_heads)) * 64;
      for (int d = 0; d < 64; ++d)
        q[row * 64 + d] = __float2bfloat16((row % 2 ? 1 : -1) * __bfloat162float(k[key + d]));
    }
    normalise(q, gains);
  }
};

struct Outputs {
  std::vector<double> o, lse, dq, dk, dv;
};

/// The contract in float64.
Outputs reference(const Inputs& in) {
  const AttentionShape& s = in.shape;
  const int dim = s.head_dim, group = s.heads / s.kv_heads;
  const auto q = widened(in.q), k = widened(in.k), v = widened(in.v), dout = widened(in.dout);
  Outputs r{std::vector<double>(query_count(s)), std::vector<double>(row_count(s)),
            std::vector<double>(query_count(s)), std::vector<double>(key_count(s)),
            std::vector<double>(key_count(s))};
  const auto dot = [&](const float* a, const float* b) {
    double x = 0;
    for (int d = 0; d < dim; ++d) x += double(a[d]) * b[d];
    return x;
  };
  std::vector<double> p(s.keys);
  for (int b = 0; b < s.batch; ++b)
    for (int h = 0; h < s.heads; ++h)
      for (int i = 0; i < s.queries; ++i) {
        const int pos = s.keys - s.queries + i;
        const int first = in.segment.empty() ? 0 : in.segment[std::size_t(b) * s.keys + pos];
        const std::size_t at = ((std::size_t(b) * s.queries + i) * s.heads + h) * dim;
        const auto key = [&](int j) {
          return ((std::size_t(b) * s.keys + j) * s.kv_heads + h / group) * dim;
        };
        double top = -INFINITY, total = 0, delta = 0;
        for (int j = first; j <= pos; ++j) top = std::max(top, p[j] = dot(&q[at], &k[key(j)]) * s.scale);
        for (int j = first; j <= pos; ++j) total += p[j] = std::exp(p[j] - top);
        for (int j = first; j <= pos; ++j) {
          p[j] /= total;
          for (int d = 0; d < dim; ++d) r.o[at + d] += p[j] * v[key(j) + d];
        }
        r.lse[(std::size_t(b) * s.heads + h) * s.queries + i] = top + std::log(total);
        for (int d = 0; d < dim; ++d) delta += r.o[at + d] * dout[at + d];
        for (int j = first; j <= pos; ++j) {
          const double ds = p[j] * (dot(&dout[at], &v[key(j)]) - delta) * s.scale;
          for (int d = 0; d < dim; ++d) {
            r.dv[key(j) + d] += p[j] * dout[at + d];
            r.dq[at + d] += ds * k[key(j) + d];
            r.dk[key(j) + d] += ds * q[at + d];
          }
        }
      }
  return r;
}

/// ||out - reference|| / ||reference||; NaN where anything is.
template <typename T, typename R>
double error(const std::vector<T>& out, const std::vector<R>& reference) {
  const auto& x = widened(out);
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    difference += (double(x[i]) - reference[i]) * (double(x[i]) - reference[i]);
    norm += double(reference[i]) * reference[i];
  }
  // An exactly zero reference (dq and dk where a row sees one key) leaves the absolute error.
  return std::sqrt(difference / std::max(norm, 1e-6 * double(x.size())));
}

struct Fast {
  const Inputs& in;
  Buffer<__nv_bfloat16> q{in.q}, k{in.k}, v{in.v}, dout{in.dout};
  Buffer<std::int32_t> segment{in.segment};
  Buffer<__nv_bfloat16> o{in.q.size()}, dq{in.q.size()}, dk{in.k.size()}, dv{in.k.size()};
  Buffer<float> lse{row_count(in.shape)};
  Buffer<char> workspace{attention_backward_workspace(in.shape)};
  explicit Fast(const Inputs& inputs) : in(inputs) {}
  const std::int32_t* segments() const { return in.segment.empty() ? nullptr : segment.get(); }
  void forward() const {
    check(attention_forward(in.shape, q.get(), k.get(), v.get(), segments(), o.get(), lse.get(), nullptr),
          "forward");
  }
  void backward(bool in_order = true) const {
    check(attention_backward(in.shape, q.get(), k.get(), v.get(), segments(), o.get(), lse.get(), dout.get(),
                             dq.get(), dk.get(), dv.get(), workspace.get(), nullptr, in_order),
          "backward");
  }
  void forward(const ForwardVariant& variant) const {
    AttentionShape shape = in.shape;
    shape.unit_keys = variant.unit_keys;
    check(variant.run(shape, q.get(), k.get(), v.get(), segments(), o.get(), lse.get(), nullptr),
          variant.name);
  }
  void backward(const BackwardVariant& variant) const {
    check(variant.run(in.shape, q.get(), k.get(), v.get(), segments(), o.get(), lse.get(), dout.get(),
                      dq.get(), dk.get(), dv.get(), workspace.get(), nullptr, true),
          variant.name);
  }
  void run(bool in_order = true) const {
    o.poison(), lse.poison(), dq.poison(), dk.poison(), dv.poison(), workspace.poison();
    forward();
    check(cudaDeviceSynchronize(), "forward");
    backward(in_order);
    check(cudaDeviceSynchronize(), "backward");
  }
};

struct Plain {
  const Inputs& in;
  Buffer<float> q{widened(in.q)}, k{widened(in.k)}, v{widened(in.v)}, dout{widened(in.dout)};
  Buffer<std::int32_t> segment{in.segment};
  Buffer<float> o{in.q.size()}, dq{in.q.size()}, dk{in.k.size()}, dv{in.k.size()};
  Buffer<float> lse{row_count(in.shape)}, delta{row_count(in.shape)};
  explicit Plain(const Inputs& inputs) : in(inputs) {
    const std::int32_t* segments = in.segment.empty() ? nullptr : segment.get();
    o.poison(), lse.poison(), dq.poison(), dk.poison(), dv.poison(), delta.poison();
    check(attention_forward_plain(in.shape, q.get(), k.get(), v.get(), segments, o.get(), lse.get(), nullptr),
          "plain forward");
    check(attention_backward_plain(in.shape, q.get(), k.get(), v.get(), segments, o.get(), lse.get(),
                                   dout.get(), dq.get(), dk.get(), dv.get(), delta.get(), nullptr),
          "plain backward");
    check(cudaDeviceSynchronize(), "plain");
  }
};

bool failed = false;

template <typename F, typename R>
void compare(const char* name, const F& f, const R& r, double bound, bool always = false) {
  const double e[] = {error(f.o.host(), r.o), error(f.lse.host(), r.lse), error(f.dq.host(), r.dq),
                      error(f.dk.host(), r.dk), error(f.dv.host(), r.dv)};
  bool good = true;
  for (const double x : e) good = good && x <= bound;
  if (!good || always)
    std::printf("  %-9s o %.1e lse %.1e dq %.1e dk %.1e dv %.1e %s\n", name, e[0], e[1], e[2], e[3], e[4],
                good ? "ok" : "FAILED");
  std::fflush(stdout);
  failed = failed || !good;
}

bool same_bytes(const Fast& f, int repeats) {
  std::vector<std::vector<__nv_bfloat16>> first;
  std::vector<float> first_lse;
  for (int i = 0; i < repeats; ++i) {
    f.run();
    std::vector<std::vector<__nv_bfloat16>> now{f.o.host(), f.dq.host(), f.dk.host(), f.dv.host()};
    const auto lse = f.lse.host();
    if (i == 0) {
      first = std::move(now), first_lse = lse;
      continue;
    }
    for (std::size_t t = 0; t < now.size(); ++t)
      if (std::memcmp(now[t].data(), first[t].data(), now[t].size() * 2) != 0) return false;
    if (std::memcmp(lse.data(), first_lse.data(), lse.size() * 4) != 0) return false;
  }
  return true;
}

void small_case(const AttentionShape& s, int mean_segment, std::uint64_t seed) {
  std::printf("B %d Sq %d S %d H %d/%d segments %d", s.batch, s.queries, s.keys, s.heads, s.kv_heads,
              mean_segment);
  const Inputs in(s, mean_segment, seed);
  const Outputs r = reference(in);
  compare("plain", Plain(in), r, 1e-4);
  const Fast f(in);
  const bool same = same_bytes(f, 4);
  compare("fast", f, r, 1e-2, true);
  f.run(false);
  compare("any order", f, r, 1e-2);
  if (!same) std::printf("  FAILED: bytes differ between runs\n");
  failed = failed || !same;
}

/// Of one variant over several cases: greatest relative error of o, of a row of o, of lse (absolute), and of
/// the gradients.
struct Worst {
  double o = 0, row = 0, lse = 0, gradient = 0;
  bool same = true, as_first = true;  ///< the same bytes in every run; as the first variant
};

/// Not-a-number stays.
void raise(double& worst, double x) {
  if (!std::isnan(worst) && !(x <= worst)) worst = x;
}

double worst_row(const std::vector<__nv_bfloat16>& out, const std::vector<float>& reference) {
  double worst = 0;
  for (std::size_t row = 0; row < out.size() / 64; ++row) {
    double difference = 0, norm = 0;
    for (std::size_t i = row * 64; i < row * 64 + 64; ++i) {
      const double d = double(__bfloat162float(out[i])) - reference[i];
      difference += d * d, norm += double(reference[i]) * reference[i];
    }
    raise(worst, std::sqrt(difference / norm));
  }
  return worst;
}

double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) raise(worst, std::abs(double(a[i]) - b[i]));
  return worst;
}

/// All variants at odd sizes with normalised keys, against the plain form; the gains reach from where every
/// tile uses the known bound (up to 8.1) to where none does, the mixed ones have both in a tile.
void check_variants() {
  const AttentionShape shapes[] = {{1, 1, 1, 2, 1},       {2, 63, 63, 2, 1},    {1, 65, 65, 4, 2},
                                   {2, 200, 200, 4, 4},   {1, 333, 333, 6, 2},  {1, 777, 777, 8, 4},
                                   {2, 64, 300, 4, 2},    {1, 150, 391, 4, 2},  {1, 1, 517, 4, 2},
                                   {2, 640, 640, 8, 4},   {1, 257, 1031, 4, 2}, {1, 100, 245, 4, 1},
                                   {1, 2048, 2048, 8, 4}, {10, 300, 300, 4, 4}, {7, 130, 450, 8, 4}};
  const std::vector<float> gains[] = {
      {0.5F}, {1.5F}, {5.25F}, {8.05F}, {12}, {0.5F, 3, 8}, {5, 8.1F, 8.4F, 12}};
  std::vector<Worst> forward(forward_variant_count), backward(backward_variant_count);
  int cases = 0;
  for (const AttentionShape& s : shapes)
    for (std::size_t g = 0; g < std::size(gains); ++g) {
      const int segment = std::vector<int>{0, 0, 90, 5}[cases % 4];
      const Inputs in(s, segment, 1000 + cases, gains[g], cases % 3 > 0);
      ++cases;
      const Plain p(in);
      const auto o = p.o.host(), lse = p.lse.host(), dq = p.dq.host(), dk = p.dk.host(), dv = p.dv.host();
      const Fast f(in);
      for (int i = 0; i < forward_variant_count; ++i) {
        std::vector<__nv_bfloat16> first;
        for (int repeat = 0; repeat < 2; ++repeat) {
          f.o.poison(), f.lse.poison();
          f.forward(forward_variants[i]);
          check(cudaDeviceSynchronize(), forward_variants[i].name);
          const auto got = f.o.host();
          if (repeat == 0) first = got;
          if (std::memcmp(first.data(), got.data(), got.size() * 2) != 0) forward[i].same = false;
        }
        raise(forward[i].o, error(first, o));
        raise(forward[i].row, worst_row(first, o));
        raise(forward[i].lse, worst_difference(f.lse.host(), lse));
      }
      std::vector<__nv_bfloat16> of_first;
      for (int i = 0; i < backward_variant_count; ++i) {
        std::vector<__nv_bfloat16> first;
        for (int repeat = 0; repeat < 3; ++repeat) {
          f.dq.poison(), f.dk.poison(), f.dv.poison(), f.workspace.poison();
          f.backward(backward_variants[i]);
          check(cudaDeviceSynchronize(), backward_variants[i].name);
          auto got = f.dq.host();
          const auto keys = f.dk.host(), values = f.dv.host();
          got.insert(got.end(), keys.begin(), keys.end()),
              got.insert(got.end(), values.begin(), values.end());
          if (repeat == 0) first = got;
          if (std::memcmp(first.data(), got.data(), got.size() * 2) != 0) backward[i].same = false;
        }
        if (i == 0) of_first = first;
        if (std::memcmp(first.data(), of_first.data(), first.size() * 2) != 0) backward[i].as_first = false;
        // Sharp weights leave little of dP - delta, so the rounding of o shows: only moderate gains count.
        if (g >= 3 && g != 5) continue;
        raise(backward[i].gradient, error(f.dv.host(), dv));
        if (g > 1) continue;
        raise(backward[i].gradient, error(f.dq.host(), dq));
        raise(backward[i].gradient, error(f.dk.host(), dk));
      }
    }
  std::printf("variants, worst of %d cases\n", cases);
  for (int i = 0; i < forward_variant_count; ++i) {
    const Worst& w = forward[i];
    const bool good = w.o <= 5e-3 && w.row <= 3e-2 && w.lse <= 1e-4 && w.same;
    std::printf("  forward  %-32s o %.1e row %.1e lse %.1e %s %s\n", forward_variants[i].name, w.o, w.row,
                w.lse, w.same ? "repeats" : "DIFFERS", good ? "ok" : "FAILED");
    failed = failed || !good;
  }
  for (int i = 0; i < backward_variant_count; ++i) {
    const Worst& w = backward[i];
    const bool good = w.gradient <= 1e-2 && w.same;
    std::printf("  backward %-32s gradients %.1e %s%s %s\n", backward_variants[i].name, w.gradient,
                w.same ? "repeats" : "DIFFERS", w.as_first ? "" : ", unlike the first",
                good ? "ok" : "FAILED");
    failed = failed || !good;
  }
  std::fflush(stdout);
}

/// Medians in milliseconds of several pieces of work that take turns.
std::vector<double> medians(int repeats, const std::vector<std::function<void(int)>>& works) {
  cudaEvent_t begin{}, end{};
  cudaEventCreate(&begin), cudaEventCreate(&end);
  std::vector<std::vector<float>> times(works.size());
  for (int i = 0; i < repeats + 5; ++i)
    for (std::size_t w = 0; w < works.size(); ++w) {
      cudaEventRecord(begin);
      works[w](i);
      cudaEventRecord(end);
      check(cudaEventSynchronize(end), "timing");
      float ms = 0;
      cudaEventElapsedTime(&ms, begin, end);
      if (i >= 5) times[w].push_back(ms);
    }
  cudaEventDestroy(begin), cudaEventDestroy(end);
  std::vector<double> result;
  for (auto& t : times) {
    std::nth_element(t.begin(), t.begin() + repeats / 2, t.end());
    result.push_back(t[repeats / 2]);
  }
  return result;
}

struct TimedCase {
  const char* name;
  AttentionShape shape;
  int mean_segment;
};

/// Errors of what is shipped against the plain form at full size, and identical bytes.
void check_large(const TimedCase& c) {
  const Inputs in(c.shape, c.mean_segment, 77);
  const Fast f(in);
  std::printf("%s: B %d S %d H %d/%d segments %d\n", c.name, c.shape.batch, c.shape.keys, c.shape.heads,
              c.shape.kv_heads, c.mean_segment);
  const bool same = same_bytes(f, 3);
  std::printf("  repeats %s\n", same ? "identical" : "FAILED: bytes differ");
  failed = failed || !same;
  f.run();
  const auto dq = f.dq.host(), dk = f.dk.host(), dv = f.dv.host();
  const auto equal = [](const auto& x, const auto& y) {
    return std::memcmp(x.data(), y.data(), x.size() * 2) == 0;
  };
  for (int i = 0; i < backward_variant_count; ++i)
    for (int repeat = 0; repeat < 3; ++repeat) {
      f.dq.poison(), f.dk.poison(), f.dv.poison(), f.workspace.poison();
      f.backward(backward_variants[i]);
      check(cudaDeviceSynchronize(), backward_variants[i].name);
      if (equal(f.dq.host(), dq) && equal(f.dk.host(), dk) && equal(f.dv.host(), dv)) continue;
      std::printf("  backward %s: bytes differ from what is shipped\n", backward_variants[i].name);
      failed = true;
      break;
    }
  const Plain p(in);
  struct {
    std::vector<float> o, lse, dq, dk, dv;
  } r{p.o.host(), p.lse.host(), p.dq.host(), p.dk.host(), p.dv.host()};
  compare("fast", f, r, 1e-2, true);
}

/// All variants in turn, two input sets each; a row per variant, a column per case.
void time_variants(const std::vector<TimedCase>& cases) {
  const int count = forward_variant_count + backward_variant_count + 1;
  std::vector<std::vector<double>> table(count);
  for (const TimedCase& c : cases) {
    const Inputs in(c.shape, c.mean_segment, 77, {4}, false), other(c.shape, c.mean_segment, 99, {4}, false);
    const Fast a(in), b(other);
    std::vector<std::function<void(int)>> works;
    for (int v = 0; v < forward_variant_count; ++v)
      works.push_back([&, v](int i) { (i % 2 ? a : b).forward(forward_variants[v]); });
    for (int v = 0; v < backward_variant_count; ++v)
      works.push_back([&, v](int i) { (i % 2 ? a : b).backward(backward_variants[v]); });
    works.push_back([&](int i) { (i % 2 ? a : b).backward(false); });
    a.run(), b.run();
    for (int round = 0; round < 2; ++round) {
      const auto ms = medians(40, works);
      for (int w = 0; w < count; ++w) table[w].push_back(ms[w]);
    }
  }
  std::printf("%-41s", "milliseconds, two rounds");
  for (const TimedCase& c : cases) std::printf(" %-15s", c.name);
  std::printf("\n");
  for (int w = 0; w < count; ++w) {
    const int back = w - forward_variant_count;
    std::printf("%-9s%-32s", back < 0 ? "forward" : "backward",
                back < 0                        ? forward_variants[w].name
                : back < backward_variant_count ? backward_variants[back].name
                                                : "shipped, in any order");
    for (std::size_t i = 0; i < cases.size(); ++i)
      std::printf(" %.4f %.4f  ", table[w][2 * i], table[w][2 * i + 1]);
    std::printf("\n");
  }
  std::fflush(stdout);
}
}  // namespace

int main(int argc, char** argv) {
  const bool timing_only = argc > 1 && std::strcmp(argv[1], "time") == 0;
  const auto wanted = [&](const char* name) { return argc < 3 || std::strcmp(argv[2], name) == 0; };
  if (!timing_only) {
    small_case({1, 1, 1, 2, 1}, 0, 1);
    small_case({2, 63, 63, 2, 1}, 0, 2);
    small_case({1, 65, 65, 4, 2}, 0, 3);
    small_case({2, 128, 128, 8, 4}, 0, 4);
    small_case({2, 200, 200, 4, 4}, 0, 5);
    small_case({1, 333, 333, 6, 2}, 0, 6);
    small_case({1, 777, 777, 8, 4}, 100, 7);
    small_case({2, 64, 300, 4, 2}, 0, 8);
    small_case({1, 150, 391, 4, 2}, 60, 9);
    small_case({1, 1, 517, 4, 2}, 0, 10);
    small_case({2, 640, 640, 8, 4}, 5, 11);
  }
  if (!timing_only) check_variants();
  const TimedCase reference{"reference", {48, 2048, 2048, 8, 4}, 0},
      documents{"documents", {48, 2048, 2048, 8, 4}, 700};
  if (!timing_only) check_large(reference), check_large(documents);
  if (argc > 1 && std::strcmp(argv[1], "check") == 0) {
    std::printf(failed ? "FAILED\n" : "all checks passed\n");
    return failed ? 1 : 0;
  }
  std::vector<TimedCase> cases;
  for (const TimedCase& c : {reference, documents, TimedCase{"short", {96, 1024, 1024, 8, 4}, 0},
                             TimedCase{"long", {12, 8192, 8192, 8, 4}, 0}})
    if (wanted(c.name)) cases.push_back(c);
  time_variants(cases);
  std::printf(failed ? "FAILED\n" : "all checks passed\n");
  return failed ? 1 : 0;
}
