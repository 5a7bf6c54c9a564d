#include "fairway/quant/policy.h"

#include <array>
#include <utility>
#include <vector>

#include "fairway/base/error.h"

namespace fairway::quant {
namespace {

constexpr std::array<std::pair<std::string_view, MatrixRule>, 6> matrix_rules = {{
    {"int6_rowmax", MatrixRule::int6_rowmax},
    {"int6_search", MatrixRule::int6_search},
    {"int5_rowmax", MatrixRule::int5_rowmax},
    {"int5_search", MatrixRule::int5_search},
    {"int8", MatrixRule::int8},
    {"fp16", MatrixRule::fp16},
}};
constexpr std::array<std::pair<std::string_view, TableRule>, 2> table_rules = {{
    {"int8", TableRule::int8},
    {"fp16", TableRule::fp16},
}};

template <class Rules>
auto parse(const Rules& rules, std::string_view key, std::string_view name) {
  std::string choices;
  for (const auto& [known, rule] : rules) {
    if (known == name) return rule;
    choices += choices.empty() ? "" : ", ";
    choices += known;
  }
  base::fail_input("{} = \"{}\": unknown rule; use one of {}", key, name, choices);
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

MatrixRule parse_matrix_rule(std::string_view key, std::string_view name) {
  return parse(matrix_rules, key, name);
}
TableRule parse_table_rule(std::string_view key, std::string_view name) {
  return parse(table_rules, key, name);
}

Category category_of(std::string_view name) {
  if (contains(name, "tok_emb") || contains(name, "lm_head")) return Category::embed;
  if (contains(name, ".mlp.")) return Category::mlp;
  if (contains(name, ".attn.") || (contains(name, ".proj.") && !contains(name, ".mlp.")))
    return Category::attn;
  return Category::other;
}

MatrixRule QuantPolicy::rule_for(std::string_view name, std::int64_t elements) const {
  if (elements <= passthrough_limit) return MatrixRule::fp16;
  const Category category = category_of(name);
  if (category == Category::mlp || category == Category::attn) return matrix;
  return table == TableRule::int8 ? MatrixRule::int8 : MatrixRule::fp16;
}

bool QuantPolicy::prunes(const tensor::Shape& shape) const {
  return prune > 0.0 && shape.rank() == 2 && shape.elements() > passthrough_limit;
}

QuantizedTensor quantize(const QuantPolicy& policy, std::string name, std::span<const float> values,
                         tensor::Shape shape, bool bf16, base::ThreadPool& pool) {
  std::vector<float> pruned;
  if (policy.prunes(shape)) {
    pruned.assign(values.begin(), values.end());
    prune_smallest(pruned, policy.prune, bf16);
    values = pruned;
  }
  switch (policy.rule_for(name, shape.elements())) {
    case MatrixRule::int6_rowmax:
      return quantize_rowmax(std::move(name), values, shape, 31, pool);
    case MatrixRule::int6_search:
      return quantize_search(std::move(name), values, shape, 31, pool);
    case MatrixRule::int5_rowmax:
      return quantize_rowmax(std::move(name), values, shape, 15, pool);
    case MatrixRule::int5_search:
      return quantize_search(std::move(name), values, shape, 15, pool);
    case MatrixRule::int8:
      return quantize_int8(std::move(name), values, shape, pool);
    case MatrixRule::fp16:
      break;
  }
  return store_fp16(std::move(name), values, shape, pool);
}

}  // namespace fairway::quant
