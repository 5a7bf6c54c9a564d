#pragma once
// Post-training quantisation by rows, after docs/spec/quantization.md sections 2 to 4 and 6. Rounding is to
// the nearest, ties to even, everywhere. A NaN, an infinity or a value that fp16 scales cannot express is an
// input error that names the tensor and the row. Nothing here depends on the number of threads.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/tensor/dtype.h"
#include "fairway/tensor/shape.h"

namespace fairway::quant {

/// How a tensor is stored.
enum class Kind : std::uint8_t {
  fp16,  ///< pass-through
  int6,  ///< one value of [-32, 31] per byte, one fp16 scale per row
  int8,  ///< one value of [-127, 127] per byte, one fp16 scale per row
  int5,  ///< one value of [-16, 15] per byte, one fp16 scale per row
  int7,  ///< one value of [-64, 63] per byte, one fp16 scale per row
};
std::string_view kind_name(Kind kind);

/// Columns of a matrix that stand on integers up to 127 (awq.h), in groups of `size` from each of `starts`,
/// with scales of their own.
struct ColumnGroups {
  std::int64_t size = 0;
  std::vector<std::int64_t> starts;  ///< ascending, without overlaps; none: the matrix has one grid
  std::vector<tensor::f16> scales;   ///< [rows]
};

/// A B, added to what the integers stand for (lqer.h).
struct LowRank {
  std::int64_t rank = 0;              ///< 0: nothing is added
  std::int64_t group = 0;             ///< consecutive elements of B that share a scale
  std::vector<std::int8_t> a, b;      ///< [rows, rank] in [-2, 1], [rank, columns] in [-8, 7]
  tensor::f16 a_scale{};              ///< of all of A
  std::vector<tensor::f16> b_scales;  ///< [ceil(rank x columns / group)]
};

/// A stored tensor. Rows are all axes but the last (tensor::Shape::rows).
struct QuantizedTensor {
  std::string name;
  tensor::Shape shape;
  Kind kind = Kind::fp16;
  std::vector<std::int8_t> q;            ///< [rows, columns] unless fp16
  std::vector<tensor::f16> scales;       ///< [rows] unless fp16
  std::vector<tensor::f16> passthrough;  ///< [elements] of fp16
  ColumnGroups fine = {};                ///< of GPTQ's kinds
  LowRank low_rank = {};                 ///< of GPTQ's kinds
  bool rotated = false;  ///< all of the above is in Hadamard's basis, from which rows are rotated back
};

/// Section 2a (PR 398, 417): s = fp16(max(max|w| / q_max, 1 / q_max)), q = clamp(round(w / s), -q_max - 1,
/// q_max). q_max: 63 for int7, 31 for int6, 15 for int5.
QuantizedTensor quantize_rowmax(std::string name, std::span<const float> values, tensor::Shape shape,
                                int q_max, base::ThreadPool& pool);

/// Whose squared error decides on the clip.
enum class ClipSearch {
  per_matrix,  ///< one p for all rows, as the published code does it
  per_row,     ///< each row its own p, as the published texts say it
};

/// Section 2b (PR 518, 573, Rec): the clip is the p-quantile of |row|, for p one of 0.9990, 0.9995, 0.9999,
/// 0.99999 and 1, that with the smallest squared error, ties to the earlier; symmetric [-q_max, q_max].
QuantizedTensor quantize_search(std::string name, std::span<const float> values, tensor::Shape shape,
                                int q_max, ClipSearch search, base::ThreadPool& pool);

/// Section 3: clip to the 0.9999984-quantile c of |row|, s = max(c / 127, 1 / 127) in fp32, q = round(w / s);
/// the stored scale is fp16(s).
QuantizedTensor quantize_int8(std::string name, std::span<const float> values, tensor::Shape shape,
                              base::ThreadPool& pool);

/// Gates (docs/spec/caseops_quantization.md section 6): s = fp16(max|row| / 127), q = clamp(round(w / s),
/// -127, 127). A row of zeros stays one.
QuantizedTensor quantize_int8_absmax(std::string name, std::span<const float> values, tensor::Shape shape,
                                     base::ThreadPool& pool);

/// fp16 pass-through.
QuantizedTensor store_fp16(std::string name, std::span<const float> values, tensor::Shape shape,
                           base::ThreadPool& pool);

/// Section 6: fp32(q) * fp32(s), or the widened fp16 values; what corrects it added and rotated back, in
/// fp32; rounded to bfloat16 when the tensor trains as such. `out` has shape.elements() entries.
void dequantize(const QuantizedTensor& tensor, std::span<float> out, base::ThreadPool& pool,
                bool round_to_bf16 = false);

/// Linear interpolation between order statistics, as torch.quantile: position p (n - 1) evaluated in fp32.
/// `values` is reordered; it must not be empty nor hold a NaN.
float quantile(std::span<float> values, float p);

/// Section 4 (PR 417): the `share`-quantile of |values|, below which (strictly) pruning drops; rounded to
/// bfloat16 for tensors that train as such. 0 for a share of 0.
float prune_threshold(std::span<const float> values, double share, bool bf16);
/// Sets to 0 what is smaller in magnitude than the threshold (strictly); returns how many.
std::int64_t prune_below(std::span<float> values, float threshold);

}  // namespace fairway::quant
