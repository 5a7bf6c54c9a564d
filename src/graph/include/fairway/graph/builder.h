#pragma once
// Records a computation in plain operators, lets passes rewrite it and derives its backward. The model is
// written once against this class; what is trainable, the batch shape and the mode decide what the recording
// holds.

#include "fairway/graph/graph.h"
#include "fairway/graph/parameters.h"
#include "fairway/graph/passes.h"

#include <functional>
#include <initializer_list>
#include <utility>

namespace fairway::graph {

class Builder {
 public:
  /// `trainable` decides by parameter name (packed matrices: asked for each part, all must agree). An empty
  /// function: nothing is trainable.
  Builder(std::string name, const ParameterLayout& layout, tensor::DType dtype,
          std::function<bool(std::string_view)> trainable = {});

  tensor::DType dtype() const noexcept { return dtype_; }  ///< of activations and compute weights
  /// Of parameters, gradients, losses and what else stays wide: f64 beside f64, else f32.
  tensor::DType wide() const noexcept {
    return dtype_ == tensor::DType::f64 ? tensor::DType::f64 : tensor::DType::f32;
  }

  ValueId input(std::string name, Meta meta);
  ValueId constant(std::string name, std::shared_ptr<const tensor::Array> data);
  /// Two states of one name in a program are refused.
  ValueId state(std::string name, Meta meta);
  ValueId parameter(std::string_view name);
  /// The parameter as products read it, in dtype(): rounded, fake-quantised or scaled once per update by a
  /// refresh program. Its gradient is the parameter's (straight through).
  ValueId compute_weight(std::string_view name);
  /// The gradient buffer of a trainable parameter, for programs that rewrite it.
  ValueId gradient(std::string_view name);

  /// Records a step and returns its outputs.
  std::vector<ValueId> apply(ops::OperatorPtr op, std::initializer_list<ValueId> in);
  std::vector<ValueId> apply(ops::OperatorPtr op, std::vector<ValueId> in);
  /// As apply, for an operator that writes into a state it is given as input.
  std::vector<ValueId> apply_stateful(ops::OperatorPtr op, std::vector<ValueId> in);
  /// Records `target = source` at this point; `target` is a state.
  void update_state(ValueId target, ValueId source);

  template <class Op, class... Args>
  std::vector<ValueId> op(std::initializer_list<ValueId> in, Args&&... args) {
    return apply(std::make_shared<const Op>(std::forward<Args>(args)...), in);
  }
  /// Records a step whose outputs are written into buffers that exist: compute weights, gradients (set).
  void write(ops::OperatorPtr op, std::vector<ValueId> in, std::vector<ValueId> out);
  /// The only (or first) output.
  template <class Op, class... Args>
  ValueId op1(std::initializer_list<ValueId> in, Args&&... args) {
    return op<Op>(in, std::forward<Args>(args)...).front();
  }
  /// x W^T.
  ValueId linear(ValueId x, ValueId weight);

  ValueId reshape(ValueId v, tensor::Shape shape);  ///< same elements, another shape; no step
  /// Elements [offset, offset + shape) of a parameter, as a value of its own; its gradient is that part's.
  ValueId slice(ValueId parameter, std::int64_t offset, tensor::Shape shape);
  void output(ValueId v, std::string name);  ///< keep it, readable by name after a run
  const Meta& meta(ValueId v) const { return graph_.at(v).meta; }

  /// Names of the steps that follow ("blocks.3.attn").
  void scope(std::string name) { scope_ = std::move(name); }

  /// Rewrites the recording by `passes`, then appends the backward of everything that `loss` ([1]; absent:
  /// none) depends on and that stands above a trainable parameter, and drops steps whose results nobody
  /// reads. The builder is empty afterwards.
  Graph finish(const Passes& passes = {}, ValueId loss = absent);

 private:
  friend class Derivation;
  ValueId add_value(Value value);
  ValueId stored(std::string_view name, BufferKind kind);
  ValueId alias(ValueId v, tensor::Shape shape, std::int64_t offset);
  std::vector<ValueId> record(ops::OperatorPtr op, std::vector<ValueId> in, bool stateful);

  const ParameterLayout& layout_;
  tensor::DType dtype_;
  std::function<bool(std::string_view)> trainable_;
  Graph graph_;
  std::string scope_;
  std::map<std::string, ValueId, std::less<>> parameters_, compute_, gradients_;
};

}  // namespace fairway::graph
