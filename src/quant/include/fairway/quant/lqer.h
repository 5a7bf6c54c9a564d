#pragma once
// LQER, asymmetric (docs/spec/caseops_quantization.md section 5): the errors that are largest over a whole
// tensor are put back in part, as a product of two narrow matrices.

#include <span>
#include <vector>

#include "fairway/quant/quantize.h"

namespace fairway::quant {

struct LqerOptions {
  int tensors = 0;          ///< so many of the model, those with the largest errors; 0: none
  std::int64_t rank = 4;    ///< at most a tensor's rows and columns
  std::int64_t group = 64;  ///< consecutive elements of B that share a scale; the last group may be shorter
};

/// The `rank` largest singular values and vectors of E = U S V^T.
struct Factorisation {
  std::vector<float> a;  ///< U S [rows, rank]
  std::vector<float> b;  ///< V^T [rank, columns]; of each row the first largest magnitude is positive
};
Factorisation low_rank(std::span<const float> e, std::int64_t columns, std::int64_t rank,
                       base::ThreadPool& pool);

/// A on -2 .. 1 with one scale, max|A| / 1.5; B on -8 .. 7, max|group| / 7.5.
LowRank pack_low_rank(const Factorisation& f, std::int64_t rank, std::int64_t group);

/// |E|^2 over all elements, E = values - what is stored; the tensor's basis is that of `values`.
double squared_residual(std::span<const float> values, const QuantizedTensor& stored, base::ThreadPool& pool,
                        std::vector<float>* residual = nullptr);

}  // namespace fairway::quant
