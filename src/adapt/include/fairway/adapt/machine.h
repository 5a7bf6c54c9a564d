#pragma once
// The model of an adaptation: weights, one optimiser at a time, and the programs of the shapes that are
// needed, in one plan. The only part of this layer that knows how programs and devices work.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fairway/adapt/selection.h"
#include "fairway/dist/communicator.h"
#include "fairway/graph/program.h"
#include "fairway/model/family.h"
#include "fairway/score/knowledge.h"
#include "fairway/score/score.h"

namespace fairway::adapt {

struct MachineOptions {
  /// The most windows that a step or a call of the scorer has; programs are no larger.
  std::int64_t train_windows = 1, score_windows = 1;
  bool fake_quantize = false;  ///< training sees int6 matrices
  /// How programs are built: dtype, folded scales, fused activations. The rest is chosen here.
  model::BuildOptions build;
  std::vector<Selection> phases;            ///< one training program each
  std::vector<std::int32_t> score_lengths;  ///< one scoring program each
  bool logits = false;                      ///< a program for whole distributions
};

/// A window to learn from and its part in the step's mean.
struct WeightedLesson {
  score::Lesson lesson;
  double weight = 0;  ///< of the window's mean loss
};

/// A copy of all weights on the machine's device.
using Snapshot = tensor::Buffer;

class Machine final : public score::WindowScorer {
 public:
  /// Copies `weights`; tables that a phase keeps in bf16 are rounded.
  Machine(const model::ModelConfig& config, const graph::ParameterStore& weights,
          const graph::Runtime& runtime, MachineOptions options);
  ~Machine() override;

  int rows() const override;  ///< of the scoring programs
  int train_rows() const;
  void score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets, int score_last,
             std::span<float> nll) override;
  /// Queues an optimiser step of a phase on any number of windows: gradients of the sum of weight * mean loss
  /// of each window, their sum over `ranks`, the update. When a gradient is not finite, neither this nor the
  /// steps in the queue behind it change anything.
  void step(int phase, std::span<const WeightedLesson> lessons, optim::Optimizer& optimizer, double lr,
            dist::Communicator& ranks);
  struct StepOutcome {
    double loss = 0;  ///< the sum above, of this rank's windows
    optim::GradientNorm gradient;
  };
  /// Of the oldest queued step; waits for it.
  StepOutcome collect();
  int queued() const;
  /// Steps that may be queued before one is collected: more than 0 keep a GPU busy.
  int depth() const;
  /// Soft-capped logits [S, V] of one window; needs `logits`. Valid until the next call.
  std::span<const float> logits(std::span<const std::int32_t> inputs);

  /// Gradients of a phase's parameters in the last step.
  std::vector<std::span<float>> gradients(int phase);
  std::unique_ptr<optim::Optimizer> make_optimizer(int phase);

  void save(Snapshot& to) const;  ///< allocates on first use
  void load(const Snapshot& from);

  const graph::ParameterStore& weights() const;
  const graph::Program& training_program(int phase) const;
  /// Seconds of so much work, from some of it on tokens of no text; weights are as before.
  double forecast_batches(int phase, double count);  ///< forward and backward of train_rows() windows
  /// What a step does once, with an optimiser of its own.
  double forecast_updates(int phase, double count);
  double forecast_scoring(int score_last, double count);  ///< calls of rows() windows
  std::vector<graph::MemoryLine> memory_table() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fairway::adapt
