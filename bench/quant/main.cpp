// bench_quant [THREADS]: seconds to quantise the matrices of PR 1855's model by GPTQ, on synthetic Hessians.

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>

#include "fairway/base/random.h"
#include "fairway/quant/gptq.h"

namespace {

using namespace fairway;

std::vector<float> normals(std::int64_t n, const std::string& stream) {
  const base::Random random(1, stream);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
  return values;
}

/// Positive definite, with a few directions that all columns share.
std::vector<float> hessian(std::int64_t n) {
  constexpr std::int64_t shared = 8;
  const auto v = normals(shared * n, "directions");
  std::vector<float> h(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      float sum = i == j ? 1.0f + static_cast<float>(i % 7) : 0.0f;
      for (std::int64_t k = 0; k < shared; ++k)
        sum += v[static_cast<std::size_t>(k * n + i)] * v[static_cast<std::size_t>(k * n + j)];
      h[static_cast<std::size_t>(i * n + j)] = sum;
    }
  return h;
}

void run(int threads) {
  struct Matrix {
    const char* name;
    std::int64_t rows, columns;
    int q_max, count;
  };
  const auto small = hessian(512), large = hessian(2048);
  base::ThreadPool pool(threads);
  double total = 0;
  for (const Matrix& m :
       {Matrix{"q", 512, 512, 31, 11}, Matrix{"k", 256, 512, 31, 11}, Matrix{"v", 256, 512, 31, 11},
        Matrix{"o", 512, 512, 31, 11}, Matrix{"fc", 2048, 512, 31, 11}, Matrix{"proj", 512, 2048, 31, 11},
        Matrix{"embedding", 8192, 512, 63, 1}}) {
    const auto values = normals(m.rows * m.columns, m.name);
    const auto start = std::chrono::steady_clock::now();
    quant::quantize_gptq(m.name, values, {m.rows, m.columns}, m.columns == 512 ? small : large,
                         {.q_max = m.q_max, .clip = 13}, pool);
    const double once = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("{:10} [{}, {}]  {:.3f} s, {} of them\n", m.name, m.rows, m.columns, once, m.count);
    total += once * m.count;
  }
  fmt::print("{} threads: {:.2f} s for the model\n", pool.threads(), total);
}

}  // namespace

int main(int argc, char** argv) { run(argc > 1 ? std::atoi(argv[1]) : 0); }
