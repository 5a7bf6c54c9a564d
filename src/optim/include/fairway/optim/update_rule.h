#pragma once
// Update rules and their settings as plain data, the same on every device. The formulas are in rules/.

#include <array>
#include <cstdint>
#include <string_view>

#include "fairway/tensor/dtype.h"

namespace fairway::optim {

enum class RuleKind : std::int32_t {
  muon,   ///< of matrices: an orthogonalised direction, see muon.h
  adamw,  ///< weight decay is decoupled
  adam,   ///< weight decay is added to the gradient
  sgd,    ///< with momentum
};
/// In the order of the kinds.
inline constexpr std::array<std::string_view, 4> rule_names = {"muon", "adamw", "adam", "sgd"};
constexpr std::string_view rule_name(RuleKind kind) { return rule_names[static_cast<std::size_t>(kind)]; }

/// A rule reads the settings that its formula names.
struct UpdateRule {
  RuleKind kind = RuleKind::adamw;
  /// Of parameters stored in bf16: every elementary operation is rounded, as PyTorch's unfused optimisers do
  /// with bf16 tensors (spec/ttt.md section 2), not just what is stored.
  bool stepwise = false;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  ///< adamw, adam
  double weight_decay = 0.0;                      ///< muon, adamw, adam
  double momentum = 0.9;                          ///< sgd; muon's is scheduled
  int ns_steps = 5;                               ///< muon: Newton-Schulz iterations
  tensor::DType ns_dtype = tensor::DType::f32;    ///< muon: what they are computed in, f32 or bf16
};

}  // namespace fairway::optim
