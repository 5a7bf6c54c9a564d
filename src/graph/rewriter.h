#pragma once
// What a pass sees of a recording: who makes a value, who reads it; and how it replaces steps.

#include "fairway/graph/passes.h"

#include <functional>
#include <optional>

namespace fairway::graph {

class Rewriter {
 public:
  Rewriter(Graph& graph, std::string_view pass) : graph_(graph), pass_(pass) {}

  Graph& graph() noexcept { return graph_; }
  Step& step(std::size_t s) { return graph_.steps[s]; }

  /// What a pass says of a place: nothing (no place of its kind), "" (it fired), or why it did not.
  using Verdict = std::optional<std::string>;
  /// Asks `at` at every step that is an Op, in order, and notes what it says.
  template <class Op>
  void at_each(const std::function<Verdict(std::size_t, const Op&)>& at) {
    for (std::size_t s = 0; s < graph_.steps.size(); ++s) {
      const auto* op = as<Op>(s);
      if (!op) continue;
      const auto kept = graph_.steps[s].op;  // `at` may replace it
      const auto scope = graph_.steps[s].scope;
      if (auto verdict = at(s, *op)) graph_.notes.push_back({std::string(pass_), scope, std::move(*verdict)});
    }
    drop_removed();
  }

  /// The operator of a step if it is an Op, else null.
  template <class Op>
  const Op* as(std::size_t s) const {
    return dynamic_cast<const Op*>(graph_.steps[s].op.get());
  }
  /// The step that makes `v` if it is an Op; nothing for inputs, parameters and other operators.
  template <class Op>
  std::optional<std::size_t> maker(ValueId v) const {
    const auto s = producer(v);
    return s && as<Op>(*s) ? s : std::nullopt;
  }
  /// Steps that read `v` or a part or another shape of it.
  std::vector<std::size_t> readers(ValueId v) const;
  /// "" when exactly one step reads `v` and the host does not; else why not.
  std::string not_alone(ValueId v) const;

  /// The step of the linear layer (x W^T) that makes `v` for one reader alone, in `step`; else why there is
  /// none, with `what` for the value.
  std::string linear_before(ValueId v, std::string_view what, std::size_t& step) const;

  bool is_compute_weight(ValueId v) const { return kind(v) == BufferKind::compute; }
  bool is_parameter(ValueId v) const { return kind(v) == BufferKind::parameter; }
  const Meta& meta(ValueId v) const { return graph_.at(v).meta; }
  bool requires_grad(ValueId v) const { return graph_.at(graph_.root(v)).requires_grad; }
  ValueId add_value(Meta meta);

  /// Step `s` becomes this one, in its place and scope.
  void replace(std::size_t s, ops::OperatorPtr op, std::vector<ValueId> in, std::vector<ValueId> out);
  /// Gone when the pass is through.
  void remove(std::size_t s) { graph_.steps[s].op = nullptr; }

 private:
  BufferKind kind(ValueId v) const { return graph_.at(graph_.root(v)).kind; }
  std::optional<std::size_t> producer(ValueId v) const;
  void drop_removed();

  Graph& graph_;
  std::string_view pass_;
};

}  // namespace fairway::graph
