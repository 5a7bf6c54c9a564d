// Which algorithm of cuBLASLt is fastest for the shapes that a program used: a tool for the
// table's author, not for run time.
#include <algorithm>
#include <vector>

#include "cuda/gemm_runner.h"
#include "cuda/state.h"
#include "fairway/base/error.h"
#include "fairway/ops/cuda_gemm.h"
#include "fairway/ops/cuda_work.h"

namespace fairway::ops::cuda {
namespace {

constexpr int suggestions = 64, repeats = 9;

/// Device memory with numbers in it: products of zeros run faster than others.
class Operand {
 public:
  Operand(State& state, std::int64_t elements, tensor::DType dtype) {
    const auto bytes = static_cast<std::size_t>(elements) * tensor::size_of(dtype) + 4;
    check_cuda(cudaMalloc(&data_, bytes), "cannot allocate a product's operand");
    std::vector<std::uint32_t> values(bytes / 4);
    std::uint32_t x = 1;
    for (auto& v : values) {
      x = x * 1664525u + 1013904223u;
      v = 0x3c003c00u | (x >> 8 & 0x807f807fu);
    }
    upload(state, data_, values.data(), values.size() * 4);
  }
  ~Operand() { cudaFree(data_); }
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

std::int64_t whole(const Gemm& p, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
  return p.batches > 1 ? std::max(rows * columns, stride * p.batches) : rows * columns;
}

/// A line of gemm_table.inc.
std::string table_line(std::size_t version, const std::string& gpu, const Gemm& p,
                       const cublasLtMatmulAlgo_t& algorithm) {
  std::string words;
  for (const auto word : algorithm.data) words += fmt::format("{}{:#x}", words.empty() ? "" : ", ", word);
  return fmt::format(
      "{{{}, \"{}\", {{{}, {}, {}, {}, {}, {}, DType::{}, DType::{}, {}, {}, {{{}, {}, {}, {}}}}}, {{{}}}}},",
      version, gpu, p.m, p.n, p.k, p.transpose_a, p.transpose_b, p.in_place, tensor::dtype_name(p.operands),
      tensor::dtype_name(p.result), p.alignment, p.batches, p.strides.a, p.strides.b, p.strides.c,
      p.strides.d, words);
}

}  // namespace

std::vector<TuningResult> tune_gemms(State& state) {
  std::vector<TuningResult> results;
  auto& runner = state.impl().gemm_runner();
  const auto stream = state.impl().stream;
  for (const auto& [p, beta] : runner.gemms()) {
    const Operand a(state, whole(p, p.m, p.k, p.strides.a), p.operands);
    const Operand b(state, whole(p, p.n, p.k, p.strides.b), p.operands);
    const Operand c(state, whole(p, p.m, p.n, p.strides.c), p.result);
    const Operand d(state, whole(p, p.m, p.n, p.strides.d), p.result);
    const GemmPlan plan(p);
    const auto time = [&, &p = p, beta = beta](const cublasLtMatmulAlgo_t& algorithm) {
      std::vector<double> seconds;
      for (int i = 0; i < repeats + 2; ++i) {
        Event before(true), after(true);
        before.record(state);
        if (!runner.try_algorithm(stream, plan, algorithm, 1, a.data(), b.data(), beta,
                                  p.in_place ? d.data() : c.data(), d.data()))
          return 1e9;
        after.record(state);
        if (i >= 2) seconds.push_back(after.seconds_since(before));
      }
      std::ranges::sort(seconds);
      return seconds[seconds.size() / 2];
    };
    TuningResult result{.m = p.m, .n = p.n, .k = p.k, .batches = p.batches};
    const auto found = runner.suggest(plan, suggestions);
    result.tried = static_cast<int>(found.size());
    const cublasLtMatmulAlgo_t* best = nullptr;
    for (const auto& algorithm : found) {
      const double seconds = time(algorithm);
      if (best == nullptr) result.first_seconds = seconds;
      // Within the measurement's spread the library's own order stands.
      if (best == nullptr || seconds < 0.98 * result.best_seconds)
        best = &algorithm, result.best_seconds = seconds;
    }
    if (best) result.line = table_line(runner.library_version(), runner.gpu(), p, *best);
    result.changed = best != nullptr && best != &found.front();
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace fairway::ops::cuda
