#include "fairway/quant/policy.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/ranges.h>

#include "fairway/base/error.h"
#include "fairway/base/pattern.h"

namespace fairway::quant {
namespace {

template <int q_max>
QuantizedTensor rowmax(std::string name, std::span<const float> values, tensor::Shape shape,
                       base::ThreadPool& pool) {
  return quantize_rowmax(std::move(name), values, shape, q_max, pool);
}
template <int q_max, ClipSearch by>
QuantizedTensor search(std::string name, std::span<const float> values, tensor::Shape shape,
                       base::ThreadPool& pool) {
  return quantize_search(std::move(name), values, shape, q_max, by, pool);
}

constexpr std::array<Rule, 15> rules = {{
    {"int6_rowmax", Kind::int6, rowmax<31>},
    {"int6_search", Kind::int6, search<31, ClipSearch::per_matrix>},
    {"int6_row_search", Kind::int6, search<31, ClipSearch::per_row>},
    {"int5_rowmax", Kind::int5, rowmax<15>},
    {"int5_search", Kind::int5, search<15, ClipSearch::per_matrix>},
    {"int5_row_search", Kind::int5, search<15, ClipSearch::per_row>},
    {"int7_rowmax", Kind::int7, rowmax<63>},
    {"int7_search", Kind::int7, search<63, ClipSearch::per_matrix>},
    {"int7_row_search", Kind::int7, search<63, ClipSearch::per_row>},
    {"int6_gptq", Kind::int6, nullptr, 31},
    {"int5_gptq", Kind::int5, nullptr, 15},
    {"int7_gptq", Kind::int7, nullptr, 63},
    {"int8", Kind::int8, quantize_int8},
    {"int8_absmax", Kind::int8, quantize_int8_absmax},
    {"fp16", Kind::fp16, store_fp16},
}};

// PR 1855: gates of other sizes go by the limit.
constexpr std::int64_t least_gate = 32, most_gate = 8192;

const Rule* rule_or_null(std::string_view name) {
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const Rule& r) { return r.name == name; });
  return found == rules.end() ? nullptr : &*found;
}

/// The grid of the same family with `more` bits, or the rule itself.
const Rule& with_more_bits(const Rule& rule, int more) {
  constexpr std::string_view prefix = "int";
  const auto digit = prefix.size();
  if (!rule.name.starts_with(prefix) || rule.name.find('_') != digit + 1) return rule;
  std::string name(rule.name);
  name[digit] = static_cast<char>(name[digit] + more);
  const auto* found = rule_or_null(name);
  return found ? *found : rule;
}

}  // namespace

std::vector<std::string> rule_names() {
  std::vector<std::string> names;
  for (const auto& rule : rules) names.emplace_back(rule.name);
  return names;
}

const Rule& find_rule(std::string_view key, std::string_view name) {
  if (const auto* rule = rule_or_null(name)) return *rule;
  base::fail_input("{} = \"{}\": unknown rule; use one of {}", key, name, fmt::join(rule_names(), ", "));
}

const Rule& QuantPolicy::rule_for(const TensorInfo& tensor) const {
  for (const auto& [pattern, rule] : overrides)
    if (base::matches(pattern, tensor.name)) return *rule;
  const auto elements = tensor.shape.elements();
  if (tensor.category == Category::gate && gate && elements >= least_gate && elements <= most_gate)
    return *gate;
  if (elements <= passthrough_limit) return *rule_or_null("fp16");
  switch (tensor.category) {
    case Category::mlp:
      return mlp ? *mlp : *attention;
    case Category::attention:
      return *attention;
    default:
      return *table;
  }
}

bool QuantPolicy::prunes(const tensor::Shape& shape) const {
  return (prune.share > 0.0 || prune.below > 0.0) && shape.rank() == 2 &&
         shape.elements() > passthrough_limit;
}

QuantPolicy policy_with(std::string_view matrix_rule) {
  QuantPolicy policy;
  policy.attention = &find_rule("quant.matrix", matrix_rule);
  policy.table = &find_rule("quant.table", "int8");
  return policy;
}

std::pair<std::string, const Rule*> parse_override(std::string_view key, std::string_view text) {
  auto [pattern, rule] =
      base::parse_pattern_value(key, text, "PATTERN=RULE, for example \"blocks.0.*=int8\"");
  return {std::move(pattern), &find_rule(key, rule)};
}

void guide_bits(QuantPolicy& policy, const Sensitivity& sensitivity, std::span<const TensorInfo> tensors,
                double high, double low) {
  std::vector<std::pair<double, const TensorInfo*>> order;
  for (const auto& [name, value] : sensitivity) {
    if (!std::isfinite(value) || value < 0)
      base::fail_input("sensitivity of {} is {}; it must be a mean of squares", name, value);
    const auto found = std::ranges::find(tensors, name, &TensorInfo::name);
    if (found == tensors.end()) continue;
    const Rule& rule = policy.rule_for(*found);
    if (&with_more_bits(rule, 1) != &rule || &with_more_bits(rule, -1) != &rule)
      order.emplace_back(-value, &*found);
  }
  std::ranges::sort(order, {}, [](const auto& o) { return std::pair(o.first, o.second->name); });
  const auto count = [&](double share) {
    return static_cast<std::size_t>(share * static_cast<double>(order.size()));
  };
  const std::size_t first_low = order.size() - count(low);
  decltype(policy.overrides) guided;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const int more = i < count(high) ? 1 : i >= first_low ? -1 : 0;
    const auto& tensor = *order[i].second;
    if (more != 0) guided.emplace_back(tensor.name, &with_more_bits(policy.rule_for(tensor), more));
  }
  // Behind the overrides that somebody wrote down, which stay the last word.
  policy.overrides.insert(policy.overrides.end(), guided.begin(), guided.end());
}

double QuantPolicy::clip_for(Category category) const {
  return category == Category::attention ? attention_clip : category == Category::mlp ? mlp_clip : table_clip;
}

double QuantPolicy::damping_for(Category category) const {
  return category == Category::attention ? attention_damping
         : category == Category::mlp     ? mlp_damping
                                         : table_damping;
}

bool QuantPolicy::rotates(const TensorInfo& tensor) const {
  const bool matrix = tensor.category == Category::attention || tensor.category == Category::mlp;
  return rotation == Rotation::hadamard && matrix && !rule_for(tensor).quantize;
}

}  // namespace fairway::quant
