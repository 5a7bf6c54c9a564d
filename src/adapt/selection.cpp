#include "fairway/adapt/selection.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/ranges.h>

#include "fairway/base/error.h"
#include "fairway/base/pattern.h"

namespace fairway::adapt {
namespace {

using base::fail_input;
using graph::Group;
using graph::Parameter;

/// Blocks that "last:K" names.
int last_blocks(const std::string& selector, int layers) {
  const auto digits = std::string_view(selector).substr(5);
  int k = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), k);
  if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() || k < 1 || k > layers)
    fail_input("adapt.train: '{}' must be last:1 to last:{}", selector, layers);
  return k;
}

bool selects(const std::string& selector, const Parameter& p, int layers) {
  if (selector == "all") return true;
  if (selector == "scales") return p.role == graph::Role::scale;
  if (selector == "tables") return p.group == Group::embedding;
  if (selector == "matrices") return p.group == Group::matrix;
  if (selector == "scalars") return p.group == Group::scalar;
  if (selector.starts_with("last:")) return p.layer >= layers - last_blocks(selector, layers);
  return base::matches(selector, p.name);
}

struct LrGroup {
  std::string pattern;
  double factor = 1;
};

std::vector<LrGroup> lr_groups(const Phase& phase, const graph::ParameterLayout& layout) {
  std::vector<LrGroup> groups;
  for (const auto& text : phase.lr_groups) {
    constexpr auto form = "PATTERN=FACTOR, for example *.mlp.proj.weight=3";
    auto [pattern, value] = base::parse_pattern_value("adapt.lr_groups", text, form);
    LrGroup group{std::move(pattern), 0};
    const char* end = value.data() + value.size();
    const auto parsed = std::from_chars(value.data(), end, group.factor);
    if (parsed.ec != std::errc() || parsed.ptr != end || !(group.factor >= 0) || !std::isfinite(group.factor))
      fail_input("adapt.lr_groups: '{}' is not {}", text, form);
    const auto& all = layout.parameters();
    if (std::none_of(all.begin(), all.end(),
                     [&](const auto& p) { return base::matches(group.pattern, p.name); }))
      fail_input("adapt.lr_groups: '{}' fits no parameter", group.pattern);
    groups.push_back(std::move(group));
  }
  return groups;
}

/// Packed matrices are one product with one gradient: all parts are trained or none.
void check_packed(const Selection& s, const graph::ParameterLayout& layout) {
  for (const auto& p : layout.parameters()) {
    if (p.packed_into.empty()) continue;
    for (const auto& other : layout.parts(p.packed_into))
      if (s.contains(p.name) != s.contains(other))
        fail_input("adapt.train: {} of block {} are one matrix; choose all of them or none",
                   fmt::format("{}", fmt::join(layout.parts(p.packed_into), ", ")), p.layer);
  }
}

}  // namespace

bool Selection::contains(std::string_view name) const {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Selection select(const Phase& phase, const graph::ParameterLayout& layout, const model::ModelConfig& config,
                 tensor::DType tables) {
  for (const auto& selector : phase.train) {
    const auto& all = layout.parameters();
    if (std::none_of(all.begin(), all.end(),
                     [&](const auto& p) { return selects(selector, p, config.layers); }))
      fail_input("adapt.train: '{}' fits no parameter of this model", selector);
  }
  auto parameters = layout.parameters();
  std::ranges::sort(parameters, {}, &Parameter::offset);
  const auto groups = lr_groups(phase, layout);
  auto rule = phase.rule;
  rule.stepwise = true;
  Selection s{.groups = {{.rule = rule}, {.rule = rule, .storage = tensor::DType::bf16}},
              .grad_clip = phase.grad_clip};
  const optim::ParamGroup* before = nullptr;  // of the parameter before this one in memory
  for (const auto& p : parameters) {
    const bool chosen = std::any_of(phase.train.begin(), phase.train.end(), [&](const auto& selector) {
      return selects(selector, p, config.layers);
    });
    if (chosen) {
      s.names.push_back(p.name);
      s.elements += p.elements();
      const auto group = std::find_if(groups.begin(), groups.end(),
                                      [&](const auto& g) { return base::matches(g.pattern, p.name); });
      const double factor = group == groups.end() ? 1.0 : group->factor;
      auto& into = s.groups[p.group == Group::embedding && tables == tensor::DType::bf16 ? 1 : 0];
      auto& ranges = into.parameters;
      if (before == &into && ranges.back().lr_factor == factor)
        ranges.back().range.end = p.offset + p.elements();
      else
        ranges.push_back({.name = p.name, .range = {p.offset, p.offset + p.elements()}, .lr_factor = factor});
      before = &into;
    } else {
      before = nullptr;
    }
  }
  if (s.names.empty()) fail_input("adapt.train = []: name what is trained");
  check_packed(s, layout);
  return s;
}

}  // namespace fairway::adapt
