#pragma once
#include "fairway/graph/builder.h"

namespace fairway::graph {

/// Reverse-mode derivation over the recorded steps of a builder (Griewank and Walther, "Evaluating
/// Derivatives"): walks the steps backwards and appends what each operator's backward() lists. Nothing is
/// emitted for values above which no trainable parameter stands.
class Derivation {
 public:
  explicit Derivation(Builder& builder) : b_(builder) {}
  void run(ValueId loss);

 private:
  void step_backward(const Step& step);
  void emit(const Step& forward, const ops::BackwardStep& rule);
  bool is_wanted(const Step& forward, const ops::BackwardStep& rule) const;
  ValueId temporary(int grad, const Step& step, std::size_t output);
  void pass_through(const Step& forward, const ops::BackwardStep& rule);
  bool wants_gradient(ValueId v) const;
  ValueId gradient_of(ValueId v) const;  ///< shaped like v; absent when zero
  /// Where a contribution to v's gradient is to be stored, and how.
  std::pair<ValueId, ops::Write> contribute(ValueId v);
  ValueId parameter_gradient(ValueId parameter);
  bool is_parameter(ValueId root) const;  ///< or its compute weight
  ValueId read(const Step& forward, const ops::Ref& ref);

  Builder& b_;
  std::vector<ValueId> gradient_;     ///< per value root
  std::vector<bool> taken_;           ///< outputs whose gradient became an input's
  std::vector<ValueId> temporaries_;  ///< of the forward step at hand
};

}  // namespace fairway::graph
