#pragma once
// Matrix products on a GPU for layers above that have no operator to run: the optimiser's batches of equal
// shapes.

#include <cstdint>
#include <string>
#include <vector>

#include "fairway/ops/cuda.h"
#include "fairway/tensor/dtype.h"

namespace fairway::ops::cuda {

/// For each matrix i of a batch, all row-major without gaps inside a matrix:
///   d_i = alpha op(a_i) op(b_i) + beta c_i,   op(a_i) [m, k], op(b_i) [k, n], c_i and d_i [m, n].
/// Sums are in fp32, the result is rounded once. Strides are elements from one matrix of a batch to the next;
/// 0 for `a` and `b`: the same matrix for all.
struct BatchedGemm {
  std::int64_t m = 0, n = 0, k = 0, batches = 1;
  bool transpose_a = false, transpose_b = false;  ///< as stored, `a` is [k, m], `b` is [n, k]
  tensor::DType operands = tensor::DType::bf16;   ///< of a and b: bf16 or f32
  tensor::DType result = tensor::DType::bf16;     ///< of c and d: bf16 or f32; bf16 needs bf16 operands
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0, stride_d = 0;
  float alpha = 1.0f, beta = 0.0f;
};

/// Queues the product on `state`'s stream. `c` may be `d` (then the strides must agree), and null when beta
/// is 0. The same call gives the same bytes each time. The first call of a shape chooses its algorithm (slow,
/// may allocate); later calls with pointers of the same alignment may be captured. Throws bad input when the
/// library is missing, a failure when it has no algorithm for the shape.
void multiply(State& state, const BatchedGemm& product, const void* a, const void* b, const void* c, void* d);

/// One shape that `state` has multiplied so far, after all usable algorithms were timed on random numbers.
struct TuningResult {
  std::int64_t m = 0, n = 0, k = 0, batches = 1;
  int tried = 0;
  double first_seconds = 0, best_seconds = 0;  ///< of the library's first suggestion; of the fastest
  bool changed = false;                        ///< the fastest is another one
  std::string line = {};                       ///< for src/ops/cuda/gemm_table.inc
};
/// Takes seconds and needs memory for one product at a time beside what is in use.
std::vector<TuningResult> tune_gemms(State& state);

}  // namespace fairway::ops::cuda
