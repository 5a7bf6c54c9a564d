#pragma once
// Which tensor is stored how (spec/quantization.md section 1).

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "fairway/quant/quantize.h"

namespace fairway::quant {

enum class MatrixRule { int6_rowmax, int6_search, int5_rowmax, int5_search, int8, fp16 };
enum class TableRule { int8, fp16 };
/// "int6_rowmax", ...; an input error that names `key` and the choices otherwise.
MatrixRule parse_matrix_rule(std::string_view key, std::string_view name);
TableRule parse_table_rule(std::string_view key, std::string_view name);

enum class Category { embed, mlp, attn, other };
/// By the original parameter names: "tok_emb.weight", "blocks.3.attn.c_k.weight", "blocks.3.mlp.fc.weight",
/// ...
Category category_of(std::string_view name);

/// The rules of one artifact.
struct QuantPolicy {
  MatrixRule matrix = MatrixRule::int6_search;  ///< linear weights of blocks
  TableRule table = TableRule::int8;            ///< everything else above the limit
  std::int64_t passthrough_limit = 65'536;      ///< at most so many elements: fp16
  double prune = 0.0;  ///< share of the smallest weights of each larger 2-D tensor to drop

  /// The rule for a tensor, as a matrix rule (tables map to int8 or fp16).
  MatrixRule rule_for(std::string_view name, std::int64_t elements) const;
  /// Whether magnitude pruning touches it: 2-D and above the pass-through limit.
  bool prunes(const tensor::Shape& shape) const;
};

/// One tensor by the policy: pruning on a copy, then quantisation. `bf16`: it trains as bfloat16.
QuantizedTensor quantize(const QuantPolicy& policy, std::string name, std::span<const float> values,
                         tensor::Shape shape, bool bf16, base::ThreadPool& pool);

}  // namespace fairway::quant
