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

/// Coefficients of Muon's Newton-Schulz iteration (docs/spec/caseops_training.md section 4).
enum class NsCoefficients : std::int32_t {
  fixed,          ///< the same quintic in every step (Jordan et al., "Muon", 2024)
  polar_express,  ///< a quintic for each of five steps (Amsel et al., "The Polar Express", 2025)
};
constexpr auto names_of(NsCoefficients) { return base::names<NsCoefficients>("fixed", "polar_express"); }

/// X <- a X + (b A + c A^2) X with A = X X^T.
struct Quintic {
  float a, b, c;
};
/// Of step `step` from 0; after the table's last step that one goes on.
constexpr Quintic quintic(NsCoefficients kind, int step) {
  if (kind == NsCoefficients::fixed) return {3.4445f, -4.7750f, 2.0315f};
  constexpr Quintic steps[] = {{8.156554524902461f, -22.48329292557795f, 15.878769915207462f},
                               {4.042929935166739f, -2.808917465908714f, 0.5000178451051316f},
                               {3.8916678022926607f, -2.772484153217685f, 0.5060648178503393f},
                               {3.285753657755655f, -2.3681294933425376f, 0.46449024233003106f},
                               {2.3465413258596377f, -1.7097828382687081f, 0.42323551169305323f}};
  return steps[step < 5 ? step : 4];
}

/// A rule reads the settings that its formula names.
struct UpdateRule {
  RuleKind kind = RuleKind::adamw;
  /// Of parameters stored in bf16: every elementary operation is rounded, as PyTorch's unfused optimisers do
  /// with bf16 tensors (docs/spec/ttt.md section 2), not just what is stored.
  bool stepwise = false;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;           ///< adamw, adam
  double weight_decay = 0.0;                               ///< muon, adamw, adam
  bool tapered_decay = false;                              ///< muon: times StepValues::decay_scale
  double momentum = 0.9;                                   ///< sgd; muon's is scheduled
  int ns_steps = 5;                                        ///< muon: Newton-Schulz iterations
  tensor::DType ns_dtype = tensor::DType::f32;             ///< muon: what they are computed in, f32 or bf16
  NsCoefficients ns_coefficients = NsCoefficients::fixed;  ///< muon
  bool row_norm = false;  ///< muon: rows of the direction get length 1 first (MuonEq-R)
  /// muon: storage of the momentum; bf16 rounds gradient and direction, too, as PR 1855 does
  tensor::DType momentum_dtype = tensor::DType::f32;
};

}  // namespace fairway::optim
