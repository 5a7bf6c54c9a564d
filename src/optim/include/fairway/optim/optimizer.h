#pragma once
// Everything one training step does after the gradients are there: norm, clip, Muon and AdamW, with scheduled
// rates.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/optim/adamw.h"
#include "fairway/optim/average.h"
#include "fairway/optim/gradient.h"
#include "fairway/optim/muon.h"
#include "fairway/optim/schedule.h"

namespace fairway::optim {

/// The published settings of the Rec family (spec/training.md sections 3 to 6 and 13).
struct OptimizerConfig {
  double matrix_lr = 0.025;
  double table_lr = 0.035;
  double scalar_lr = 0.025;
  MomentumWarmup muon_momentum;
  int ns_steps = 5;
  Precision ns_precision = Precision::f32;
  double muon_weight_decay = 0.04;
  double adam_weight_decay = 0.04;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  bool adam_decoupled = true;
  double grad_clip = 0.3;  ///< 0: none
  Storage tables = Storage::f32;
  LrSchedule schedule;
};

/// A matrix of the flat parameter buffer, row-major from `offset` on.
struct MatrixSlot {
  std::string name;
  std::int64_t offset = 0, rows = 0, columns = 0;
};

/// Which part of the flat buffers goes to which optimiser. Parts must not overlap; what is in none is frozen
/// and does not enter the norm.
struct ParameterMap {
  std::vector<MatrixSlot> matrices;
  std::vector<FlatRange> tables;
  std::vector<FlatRange> scalars;
};

/// What a step did.
struct StepReport {
  GradientNorm gradient;
  float clip = 1.0f;      ///< what the gradients were multiplied by
  double lr_scale = 1.0;  ///< what each base learning rate was multiplied by
  double momentum = 0.0;  ///< Muon's
};

/// Owns all optimiser state. `values` and `gradients` are the caller's flat buffers of one layout; they and
/// the pool must outlive it. Not thread-safe; steps allocate nothing.
class Optimizer {
 public:
  Optimizer(const OptimizerConfig& config, const ParameterMap& map, std::span<float> values,
            std::span<const float> gradients, base::ThreadPool& pool);

  /// One step. With a NaN or infinity among the gradients nothing is changed and the report says so.
  StepReport step(const Progress& progress);

  /// Rounds values to their storage type; for a start or a load, since a step rounds only what it writes.
  void round_to_storage(std::span<float> values) const;

  /// The whole state: "muon.NAME.momentum", "adamw.NAME.step|m|v".
  std::vector<StateBuffer> state();
  const OptimizerConfig& config() const noexcept { return config_; }
  double flops() const { return muon_.flops(); }

 private:
  struct Group {
    FlatRange range;
    double lr;
    AdamW adam;
  };

  OptimizerConfig config_;
  std::span<float> values_;
  std::span<const float> gradients_;
  base::ThreadPool* pool_;
  GradientNormer normer_;
  Muon muon_;
  std::vector<Group> groups_;
};

}  // namespace fairway::optim
