// Checks and times the CUDA attention: errors against float64 on the CPU (odd sizes) and against the plain
// fp32 form (forward with unit keys; reference shape), identical bytes on repeats, medians by CUDA events.
// Prints a table; exit code 1 on a failed check. Arguments: [check | time [case]].
#include <cmath>
#include <random>

#include "attention.h"
#include "kernel_check.cuh"

namespace {
using namespace fairway::bench;
using namespace fairway::ops::cuda;

template <typename T>
struct Loaded : Buffer<T> {
  explicit Loaded(const std::vector<T>& host) : Buffer<T>(host.size()) { this->assign(host); }
};

std::size_t query_count(const AttentionShape& s) {
  return std::size_t(s.batch) * s.queries * s.heads * s.head_dim;
}
std::size_t key_count(const AttentionShape& s) {
  return std::size_t(s.batch) * s.keys * s.kv_heads * s.head_dim;
}
std::size_t row_count(const AttentionShape& s) { return std::size_t(s.batch) * s.queries * s.heads; }

std::vector<bf16> random_values(std::size_t n, float deviation, std::uint64_t seed) {
  std::vector<bf16> v(n);
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
std::vector<float> widened(const std::vector<bf16>& v) {
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
void normalise(std::vector<bf16>& v, const std::vector<float>& gains) {
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
  std::vector<bf16> q, k, v, dout;
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
  Loaded<bf16> q{in.q}, k{in.k}, v{in.v}, dout{in.dout};
  Loaded<std::int32_t> segment{in.segment};
  Buffer<bf16> o{in.q.size()}, dq{in.q.size()}, dk{in.k.size()}, dv{in.k.size()};
  Buffer<float> lse{row_count(in.shape)};
  Buffer<char> workspace{attention_backward_workspace(in.shape)};
  explicit Fast(const Inputs& inputs) : in(inputs) {}
  const std::int32_t* segments() const { return in.segment.empty() ? nullptr : segment.get(); }
  void forward(bool unit_keys) const {
    AttentionShape s = in.shape;
    s.unit_keys = unit_keys;
    check(attention_forward(s, q.get(), k.get(), v.get(), segments(), o.get(), lse.get(), nullptr),
          "forward");
  }
  void backward(bool in_order = true) const {
    check(attention_backward(in.shape, q.get(), k.get(), v.get(), segments(), o.get(), lse.get(), dout.get(),
                             dq.get(), dk.get(), dv.get(), workspace.get(), nullptr, in_order),
          "backward");
  }
  void run(bool in_order = true) const {
    o.poison(), lse.poison(), dq.poison(), dk.poison(), dv.poison(), workspace.poison();
    forward(in.shape.unit_keys);
    check(cudaDeviceSynchronize(), "forward");
    backward(in_order);
    check(cudaDeviceSynchronize(), "backward");
  }
  bool guards_intact() const {
    return o.guards_intact() && lse.guards_intact() && dq.guards_intact() && dk.guards_intact() &&
           dv.guards_intact() && workspace.guards_intact();
  }
};

struct Plain {
  const Inputs& in;
  Loaded<float> q{widened(in.q)}, k{widened(in.k)}, v{widened(in.v)}, dout{widened(in.dout)};
  Loaded<std::int32_t> segment{in.segment};
  Buffer<float> o{in.q.size()}, dq{in.q.size()}, dk{in.k.size()}, dv{in.k.size()};
  Buffer<float> lse{row_count(in.shape)}, delta{row_count(in.shape)};
  explicit Plain(const Inputs& inputs) : in(inputs) {
    const std::int32_t* segments = in.segment.empty() ? nullptr : segment.get();
    check(attention_forward_plain(in.shape, q.get(), k.get(), v.get(), segments, o.get(), lse.get(), nullptr),
          "plain forward");
    check(attention_backward_plain(in.shape, q.get(), k.get(), v.get(), segments, o.get(), lse.get(),
                                   dout.get(), dq.get(), dk.get(), dv.get(), delta.get(), nullptr),
          "plain backward");
    check(cudaDeviceSynchronize(), "plain");
  }
};

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

/// The same bytes in every run, and none outside the outputs.
void check_repeats(const Fast& f, int repeats) {
  f.run();
  const auto o = f.o.host(), dq = f.dq.host(), dk = f.dk.host(), dv = f.dv.host();
  const auto lse = f.lse.host();
  bool same = true;
  for (int i = 1; i < repeats; ++i) {
    f.run();
    same = same && f.o.same(o) && f.lse.same(lse) && f.dq.same(dq) && f.dk.same(dk) && f.dv.same(dv);
  }
  if (!same) std::printf("  FAILED: bytes differ between runs\n");
  if (!f.guards_intact()) std::printf("  FAILED: writes beyond the outputs\n");
  failed = failed || !same || !f.guards_intact();
}

void small_case(const AttentionShape& s, int mean_segment, std::uint64_t seed) {
  std::printf("B %d Sq %d S %d H %d/%d segments %d", s.batch, s.queries, s.keys, s.heads, s.kv_heads,
              mean_segment);
  const Inputs in(s, mean_segment, seed);
  const Outputs r = reference(in);
  compare("plain", Plain(in), r, 1e-4);
  const Fast f(in);
  check_repeats(f, 4);
  compare("fast", f, r, 1e-2, true);
  f.run(false);
  compare("any order", f, r, 1e-2);
}

double worst_row(const std::vector<bf16>& out, const std::vector<float>& reference) {
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

/// Both ways of the forward kernel at odd sizes with normalised keys, against the plain form; the gains reach
/// from where every tile uses the known bound (up to 8.1) to where none does, the mixed ones have both in a
/// tile. Gradients are left to check_large: saturated weights leave nothing of dP - delta but roundings.
void check_unit_keys() {
  const AttentionShape shapes[] = {{1, 1, 1, 2, 1},       {2, 63, 63, 2, 1},    {1, 65, 65, 4, 2},
                                   {2, 200, 200, 4, 4},   {1, 333, 333, 6, 2},  {1, 777, 777, 8, 4},
                                   {2, 64, 300, 4, 2},    {1, 150, 391, 4, 2},  {1, 1, 517, 4, 2},
                                   {2, 640, 640, 8, 4},   {1, 257, 1031, 4, 2}, {1, 100, 245, 4, 1},
                                   {1, 2048, 2048, 8, 4}, {10, 300, 300, 4, 4}, {7, 130, 450, 8, 4}};
  const std::vector<float> gains[] = {
      {0.5F}, {1.5F}, {5.25F}, {8.05F}, {12}, {0.5F, 3, 8}, {5, 8.1F, 8.4F, 12}};
  struct {
    double o = 0, row = 0, lse = 0;
    bool same = true;
  } worst[2];
  int cases = 0;
  for (const AttentionShape& s : shapes)
    for (const auto& gain : gains) {
      const int segment = std::vector<int>{0, 0, 90, 5}[cases % 4];
      const Inputs in(s, segment, 1000 + cases, gain, cases % 3 > 0);
      ++cases;
      const Plain p(in);
      const auto o = p.o.host(), lse = p.lse.host();
      const Fast f(in);
      for (const bool unit_keys : {false, true}) {
        auto& w = worst[unit_keys];
        std::vector<bf16> first;
        for (int repeat = 0; repeat < 2; ++repeat) {
          f.o.poison(), f.lse.poison();
          f.forward(unit_keys);
          check(cudaDeviceSynchronize(), "forward");
          if (repeat == 0) first = f.o.host();
        }
        w.same = w.same && f.o.same(first) && f.o.guards_intact() && f.lse.guards_intact();
        raise(w.o, error(first, o));
        raise(w.row, worst_row(first, o));
        const auto sums = f.lse.host();
        for (std::size_t i = 0; i < sums.size(); ++i) raise(w.lse, std::abs(double(sums[i]) - lse[i]));
      }
    }
  std::printf("unit keys, worst of %d cases (o: relative, of all and of a row; lse: absolute)\n", cases);
  for (const bool unit_keys : {false, true}) {
    const auto& w = worst[unit_keys];
    const bool good = w.o <= 5e-3 && w.row <= 3e-2 && w.lse <= 1e-4 && w.same;
    std::printf("  %-16s o %.1e row %.1e lse %.1e %s\n", unit_keys ? "known bound" : "running maximum", w.o,
                w.row, w.lse, good ? "ok" : "FAILED");
    failed = failed || !good;
  }
  std::fflush(stdout);
}

struct LargeCase {
  const char* name;
  AttentionShape shape;
  int mean_segment;
  float gain;
};

/// Errors against the plain form at full size with normalised queries and keys, as in a model.
void check_large(const LargeCase& c) {
  AttentionShape shape = c.shape;
  shape.unit_keys = true;
  const Inputs in(shape, c.mean_segment, 77, {c.gain}, false);
  const Fast f(in);
  std::printf("%s: B %d S %d H %d/%d segments %d\n", c.name, shape.batch, shape.keys, shape.heads,
              shape.kv_heads, c.mean_segment);
  check_repeats(f, 3);
  const Plain p(in);
  struct {
    std::vector<float> o, lse, dq, dk, dv;
  } r{p.o.host(), p.lse.host(), p.dq.host(), p.dk.host(), p.dv.host()};
  compare("fast", f, r, 1e-2, true);
}

void time_case(const LargeCase& c) {
  const Inputs in(c.shape, c.mean_segment, 77, {c.gain}, false);
  const Fast f(in);
  f.run();
  std::printf("%-11s", c.name);
  const std::function<void(int)> works[] = {[&](int) { f.forward(true); }, [&](int) { f.forward(false); },
                                            [&](int) { f.backward(); }, [&](int) { f.backward(false); }};
  double ms[2][4];
  for (auto& round : ms)
    for (int w = 0; w < 4; ++w) round[w] = median_ms(40, works[w]);
  for (int w = 0; w < 4; ++w) std::printf("  %.4f %.4f  ", ms[0][w], ms[1][w]);
  std::printf("\n");
  std::fflush(stdout);
}
}  // namespace

int main(int argc, char** argv) {
  const auto asked = [&](const char* what) { return argc < 2 || std::strcmp(argv[1], what) == 0; };
  const AttentionShape model{48, 2048, 2048, 8, 4};
  const LargeCase cases[] = {{"reference", model, 0, 1.5F},
                             {"sharp", model, 0, 4},
                             {"documents", model, 700, 1.5F},
                             {"short", {96, 1024, 1024, 8, 4}, 0, 1.5F},
                             {"long", {12, 8192, 8192, 8, 4}, 0, 1.5F}};
  if (asked("check")) {
    int seed = 0;
    for (const auto& [shape, mean_segment] : {std::pair<AttentionShape, int>{{1, 1, 1, 2, 1}, 0},
                                              {{2, 63, 63, 2, 1}, 0},
                                              {{1, 65, 65, 4, 2}, 0},
                                              {{2, 128, 128, 8, 4}, 0},
                                              {{2, 200, 200, 4, 4}, 0},
                                              {{1, 333, 333, 6, 2}, 0},
                                              {{1, 777, 777, 8, 4}, 100},
                                              {{2, 64, 300, 4, 2}, 0},
                                              {{1, 150, 391, 4, 2}, 60},
                                              {{1, 1, 517, 4, 2}, 0},
                                              {{2, 640, 640, 8, 4}, 5}})
      small_case(shape, mean_segment, ++seed);
    check_unit_keys();
    check_large(cases[0]), check_large(cases[2]);
    std::printf(failed ? "FAILED\n" : "all checks passed\n");
  }
  if (asked("time")) {
    std::printf(
        "milliseconds, two rounds: forward with the known bound, with a running maximum; backward in order, "
        "in any order\n");
    for (const LargeCase& c : cases)
      if (argc < 3 || std::strcmp(argv[2], c.name) == 0) time_case(c);
  }
  return failed ? 1 : 0;
}
