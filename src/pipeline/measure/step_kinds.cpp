#include "fairway/pipeline/measure/step_kinds.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <tuple>

namespace fairway::pipeline {

namespace {

bool is_constant(std::string_view attribute) {
  static constexpr std::array<std::string_view, 7> names = {
      "scale=", "eps=", "slope=", "factor=", "row_scale=", "cap=", "z_loss="};
  return std::ranges::any_of(names, [&](auto name) { return attribute.starts_with(name); });
}

std::string name_of(const graph::StepReport& step) {
  std::string name = step.op;
  for (std::string_view rest = step.attributes; !rest.empty();) {
    const auto word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    if (!word.empty() && !is_constant(word)) name.append(" ").append(word);
  }
  return name;
}

}  // namespace

std::vector<StepKind> step_kinds(const std::vector<graph::StepReport>& steps) {
  std::map<std::tuple<std::string, std::string, bool>, std::size_t> places;
  std::vector<StepKind> kinds;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto& s = steps[i];
    const auto [place, fresh] = places.try_emplace({name_of(s), s.inputs, s.is_backward}, kinds.size());
    if (fresh) kinds.push_back({std::get<0>(place->first), s.inputs, s.is_backward, {}, {}, 0});
    auto& kind = kinds[place->second];
    kind.steps.push_back(i);
    kind.cost.flops += s.cost.flops;
    kind.cost.bytes += s.cost.bytes;
    kind.seconds += s.seconds;
  }
  return kinds;
}

}  // namespace fairway::pipeline
