#include "rewriter.h"

#include <algorithm>

#include <fmt/format.h>

#include "fairway/ops/matmul.h"

namespace fairway::graph {

std::optional<std::size_t> Rewriter::producer(ValueId v) const {
  for (std::size_t s = 0; s < graph_.steps.size(); ++s)
    for (const auto out : graph_.steps[s].out)
      if (graph_.steps[s].op && out != absent && graph_.root(out) == graph_.root(v)) return s;
  return {};
}

std::vector<std::size_t> Rewriter::readers(ValueId v) const {
  std::vector<std::size_t> found;
  for (std::size_t s = 0; s < graph_.steps.size(); ++s)
    if (graph_.steps[s].op && std::ranges::any_of(graph_.steps[s].in, [&](ValueId in) {
          return in != absent && graph_.root(in) == graph_.root(v);
        }))
      found.push_back(s);
  return found;
}

std::string Rewriter::not_alone(ValueId v) const {
  const auto who = [&] {
    const auto made = producer(v);
    return made ? graph_.steps[*made].op->name() : std::string_view(graph_.at(graph_.root(v)).name);
  };
  if (graph_.at(graph_.root(v)).output) return fmt::format("the result of {} is read by the host", who());
  const auto all = readers(v);
  if (all.size() == 1) return {};
  std::string names;
  for (const auto s : all) names += (names.empty() ? "" : ", ") + std::string(graph_.steps[s].op->name());
  return fmt::format("the result of {} has {} readers ({})", who(), all.size(), names);
}

std::string Rewriter::linear_before(ValueId v, std::string_view what, std::size_t& step) const {
  const auto product = maker<ops::Matmul>(v);
  if (!product) return fmt::format("{} is no product", what);
  const auto* op = as<ops::Matmul>(*product);
  if (op->transpose_a || !op->transpose_b) return fmt::format("{} is no linear layer", what);
  step = *product;
  return not_alone(v);
}

ValueId Rewriter::add_value(Meta meta) {
  const auto id = static_cast<ValueId>(graph_.values.size());
  graph_.values.push_back({.meta = meta, .root = id});
  return id;
}

void Rewriter::replace(std::size_t s, ops::OperatorPtr op, std::vector<ValueId> in,
                       std::vector<ValueId> out) {
  auto& step = graph_.steps[s];
  step.op = std::move(op);
  step.in = std::move(in);
  step.write.assign(out.size(), ops::Write::set);
  step.out = std::move(out);
}

void Rewriter::drop_removed() {
  std::erase_if(graph_.steps, [](const Step& step) { return !step.op; });
}

}  // namespace fairway::graph
