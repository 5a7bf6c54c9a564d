#pragma once
// GPTQ with clips from the rows' deviations (docs/spec/caseops_quantization.md section 3; Frantar et al.,
// "GPTQ", 2023): columns are rounded one after the other, and what is lost on one is made up for on those to
// come.

#include <map>
#include <span>
#include <string>
#include <vector>

#include "fairway/quant/quantize.h"

namespace fairway::quant {

/// By matrix [rows, c]: H = x^T x of the rows x that it multiplies, row-major [c, c]; a common factor does
/// not matter.
using Hessians = std::map<std::string, std::vector<float>>;

struct GptqOptions {
  int q_max = 31;          ///< 15, 31 or 63; integers are symmetric
  double clip = 12.85;     ///< a row's scale is clip x its standard deviation / q_max, in fp16
  double damping = 0.01;   ///< of the mean of H's diagonal, added to it
  bool rotated = false;    ///< values and Hessian go into Hadamard's basis first (hadamard.h), and stay there
  ColumnGroups fine = {};  ///< columns on integers up to 127: `size` and `starts` (awq.h)
};

class Factors;

/// Columns go by descending diagonal of H; one that no input reaches becomes zero. An input error that names
/// the tensor when H has another size or is not positive definite. `factors` keeps what tensors with the same
/// Hessian share. Independent of the number of threads.
QuantizedTensor quantize_gptq(std::string name, std::span<const float> values, tensor::Shape shape,
                              std::span<const float> hessian, const GptqOptions& options,
                              base::ThreadPool& pool, Factors* factors = nullptr);

}  // namespace fairway::quant
