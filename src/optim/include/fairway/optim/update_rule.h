#pragma once
// Update rules and their settings as plain data, the same on every device. The formulas are in rules/.

#include <cstdint>

#include "fairway/base/enum_names.h"
#include "fairway/tensor/dtype.h"

namespace fairway::optim {

enum class RuleKind : std::int32_t {
  muon,   ///< of matrices: an orthogonalised direction, see muon.h
  adamw,  ///< weight decay is decoupled
  adam,   ///< weight decay is added to the gradient
  sgd,    ///< with momentum
};
constexpr auto names_of(RuleKind) { return base::names<RuleKind>("muon", "adamw", "adam", "sgd"); }

/// A rule reads the settings that its formula names.
struct UpdateRule {
  RuleKind kind = RuleKind::adamw;
  /// Of parameters stored in bf16: every elementary operation is rounded, as PyTorch's unfused optimisers do
  /// with bf16 tensors (docs/spec/ttt.md section 2), not just what is stored.
  bool stepwise = false;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  ///< adamw, adam
  double weight_decay = 0.0;                      ///< muon, adamw, adam
  double momentum = 0.9;                          ///< sgd; muon's is scheduled
  int ns_steps = 5;                               ///< muon: Newton-Schulz iterations
  tensor::DType ns_dtype = tensor::DType::f32;    ///< muon: what they are computed in, f32 or bf16
};

}  // namespace fairway::optim
