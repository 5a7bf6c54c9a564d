#pragma once
// The published settings of training: Muon for matrices, AdamW for embeddings and scalars.

#include <cstdint>
#include <vector>

#include "fairway/optim/optimizer.h"
#include "fairway/optim/schedule.h"

namespace fairway::optim {

/// Whose gradient `grad_clip` limits.
enum class Clip : std::int32_t {
  global,  ///< the whole step's
  rank,    ///< each rank's, before they are averaged (docs/spec/caseops_training.md section 4.1)
};
constexpr auto names_of(Clip) { return base::names<Clip>("global", "rank"); }

/// The Rec family's (docs/spec/training.md sections 3 to 6 and 13).
struct TrainingConfig {
  double matrix_lr = 0.025;
  double embedding_lr = 0.035;
  double scalar_lr = 0.025;
  MomentumWarmup muon_momentum;
  int ns_steps = 5;
  tensor::DType ns_dtype = tensor::DType::f32;
  NsCoefficients ns_coefficients = NsCoefficients::fixed;
  bool muon_row_norm = false;
  tensor::DType muon_momentum_dtype = tensor::DType::f32;
  double muon_weight_decay = 0.04;
  DecayTaper muon_decay_taper;
  double adam_weight_decay = 0.04;
  double scalar_weight_decay = -1;  ///< of the scalars; -1: adam_weight_decay
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double grad_clip = 0.3;  ///< 0: none
  Clip clip = Clip::global;
  tensor::DType embeddings = tensor::DType::f32;  ///< what they are stored in
};

/// A model's parameters by what trains them.
struct TrainedParameters {
  std::vector<ParamRange> matrices, embeddings, scalars;
};

/// `ranks`: of a step, for Clip::rank.
OptimizerConfig optimizer_config(const TrainingConfig& config, const TrainedParameters& parameters,
                                 const Averages& averages = {}, int ranks = 1);

/// The values of the step after `step` completed ones; `lr_scale` and `part_done` as the schedule gives them.
StepValues step_values(const TrainingConfig& config, double lr_scale, std::int64_t step,
                       EmaStep ema = EmaStep::none, double part_done = 0);

}  // namespace fairway::optim
