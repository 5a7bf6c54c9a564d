#pragma once
// Which tensor is stored how (docs/spec/quantization.md section 1), and the ways there are. A new way is a
// function and one line in the table of policy.cpp.

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fairway/base/enum_names.h"
#include "fairway/quant/awq.h"
#include "fairway/quant/gptq.h"
#include "fairway/quant/lqer.h"
#include "fairway/quant/quantize.h"

namespace fairway::quant {

/// A named way to store a tensor.
struct Rule {
  std::string_view name;  ///< "int6_search", "fp16", ...
  Kind kind;
  /// Null: GPTQ on integers up to q_max, which needs the tensor's Hessian.
  QuantizedTensor (*quantize)(std::string name, std::span<const float> values, tensor::Shape shape,
                              base::ThreadPool& pool);
  int q_max = 0;
};
std::vector<std::string> rule_names();
/// An input error that names `key` and the choices when there is no such rule.
const Rule& find_rule(std::string_view key, std::string_view name);

/// Which of a policy's rules is meant for a tensor.
enum class Category {
  attention,  ///< matrices of blocks but for the MLP's, and inner projections
  mlp,
  table,  ///< everything else
  gate,   ///< of heads (docs/spec/caseops_quantization.md section 6)
};

/// A tensor without its values.
struct TensorInfo {
  std::string name;
  tensor::Shape shape;
  Category category = Category::table;
};

enum class PruneWhen {
  before,  ///< before quantising, as PR 417
  after,   ///< the integers, once scales and clips were chosen from all weights
};
constexpr auto names_of(PruneWhen) { return base::names<PruneWhen>("before", "after"); }

/// Magnitude pruning of the copy that is exported (section 4).
struct Pruning {
  double share = 0.0;  ///< of each tensor, its smallest weights
  double below = 0.0;  ///< and all weights smaller than this
  PruneWhen when = PruneWhen::before;
};

/// The basis in which GPTQ's matrices are quantised and stored; tables keep theirs.
enum class Rotation {
  none,
  hadamard,  ///< docs/spec/caseops_quantization.md section 4 (PR 2143); widths are powers of two
};
constexpr auto names_of(Rotation) { return base::names<Rotation>("none", "hadamard"); }

/// The rules of one artifact.
struct QuantPolicy {
  /// First match wins, before everything below and whatever the tensor's size: pass-through lists, mixed
  /// grids.
  std::vector<std::pair<std::string, const Rule*>> overrides;
  /// By category; `mlp` null: as `attention`.
  const Rule *attention = nullptr, *mlp = nullptr, *table = nullptr;
  const Rule* gate = nullptr;               ///< of gates of 32 to 8192 elements; null: fp16
  std::int64_t passthrough_limit = 65'536;  ///< at most so many elements: fp16
  /// GPTQ: a row's scale is this times its standard deviation over q_max (GptqOptions::clip), by category.
  double attention_clip = 13.0, mlp_clip = 11.5, table_clip = 14.0;
  /// GPTQ: GptqOptions::damping, by category.
  double attention_damping = 0.01, mlp_damping = 0.01, table_damping = 0.01;
  Rotation rotation = Rotation::none;
  AwqOptions awq;
  LqerOptions lqer;
  Pruning prune;

  const Rule& rule_for(const TensorInfo& tensor) const;
  double clip_for(Category category) const;
  double damping_for(Category category) const;
  /// Whether GPTQ stores the tensor in Hadamard's basis.
  bool rotates(const TensorInfo& tensor) const;
  /// Whether magnitude pruning touches it: 2-D and above the pass-through limit.
  bool prunes(const tensor::Shape& shape) const;
};

/// One rule for all matrices, int8 tables: the published systems.
QuantPolicy policy_with(std::string_view matrix_rule);

/// Reads "PATTERN=RULE"; an input error that begins with `key`.
std::pair<std::string, const Rule*> parse_override(std::string_view key, std::string_view text);

/// How much the loss depends on each matrix: its mean squared gradient, by name (docs/spec/ttt.md section 7).
using Sensitivity = std::map<std::string, double>;

/// Gradient-guided bits (PR 398's ablation): of the matrices that `sensitivity` names and that stand on a
/// grid of 5 to 7 bits, the `high` share with the largest values gets one bit more, the `low` share with the
/// smallest one bit less. Numbers are rounded down, ties go by name; overrides that are there stay the last
/// word. `tensors`: all of the model. An input error for a value that is no mean of squares.
void guide_bits(QuantPolicy& policy, const Sensitivity& sensitivity, std::span<const TensorInfo> tensors,
                double high, double low);

/// A tensor of the model. `bf16`: it trains as bfloat16.
struct Source {
  TensorInfo info;
  std::span<const float> values;
  bool bf16 = false;
};

/// All tensors of a model by the policy, in the order of `sources`: pruning on a copy, the columns that AWQ
/// picks of the whole model, quantisation, then LQER where most was lost. Hessians are means over input rows
/// (any common factor is as good without AWQ). `between` is called between tensors. An input error where a
/// rule is GPTQ's and `hessians` does not have its tensor.
std::vector<QuantizedTensor> quantize_model(const QuantPolicy& policy, std::span<const Source> sources,
                                            base::ThreadPool& pool, const Hessians& hessians = {},
                                            const std::function<void()>& between = {});
/// A model of one tensor.
QuantizedTensor quantize(const QuantPolicy& policy, const TensorInfo& tensor, std::span<const float> values,
                         bool bf16, base::ThreadPool& pool, const Hessians& hessians = {});

}  // namespace fairway::quant
