#include "fairway/optim/training.h"

namespace fairway::optim {
namespace {

enum Rate { matrix_rate, embedding_rate, scalar_rate };

}  // namespace

OptimizerConfig optimizer_config(const TrainingConfig& c, const TrainedParameters& parameters,
                                 const Averages& averages, int ranks) {
  const UpdateRule muon{.kind = RuleKind::muon,
                        .weight_decay = c.muon_weight_decay,
                        .tapered_decay = c.muon_decay_taper.start < 1,
                        .ns_steps = c.ns_steps,
                        .ns_dtype = c.ns_dtype,
                        .ns_coefficients = c.ns_coefficients,
                        .row_norm = c.muon_row_norm,
                        .momentum_dtype = c.muon_momentum_dtype};
  const UpdateRule adamw{.kind = RuleKind::adamw,
                         .beta1 = c.beta1,
                         .beta2 = c.beta2,
                         .eps = c.eps,
                         .weight_decay = c.adam_weight_decay};
  auto scalars = adamw;
  if (c.scalar_weight_decay >= 0) scalars.weight_decay = c.scalar_weight_decay;
  return {.groups = {{muon, matrix_rate, tensor::DType::f32, parameters.matrices},
                     {adamw, embedding_rate, c.embeddings, parameters.embeddings},
                     {scalars, scalar_rate, tensor::DType::f32, parameters.scalars}},
          .grad_clip = c.grad_clip,
          .ranks = c.clip == Clip::rank && c.grad_clip > 0 ? ranks : 0,
          .averages = averages};
}

StepValues step_values(const TrainingConfig& c, double lr_scale, std::int64_t step, EmaStep ema,
                       double part_done) {
  return {.lr = {c.matrix_lr * lr_scale, c.embedding_lr * lr_scale, c.scalar_lr * lr_scale},
          .momentum = momentum_at(c.muon_momentum, step),
          .decay_scale = decay_scale_at(c.muon_decay_taper, part_done),
          .ema = ema};
}

}  // namespace fairway::optim
