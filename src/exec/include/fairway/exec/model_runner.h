#pragma once
// A model on a device: weights, compute weights, the programs of a run, and what moves between host and
// device while they run. Training, scoring, test-time training, generating and measuring all stand on it.

#include "fairway/exec/form.h"
#include "fairway/exec/staging.h"

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace fairway::exec {

/// What programs read where they read other numbers than the weights: these in the programs' dtype, or also
/// fake-quantised.
enum class ComputeWeights { plain, quantised };

/// A copy of all weights on their device.
using Snapshot = tensor::Buffer;

struct RunnerOptions {
  tensor::DType products = tensor::DType::f32;
  bool trains = false;               ///< with gradients
  std::int64_t micro_batches = 1;    ///< of a training step, at most
  graph::QuantLevels quantise = {};  ///< of ComputeWeights::quantised; empty: the same as plain
  std::optional<Form> form = {};     ///< for tests; none: the engine's
};

/// Use: add() every program, allocate(), set the weights, then run. Not thread-safe: one run at a time.
class ModelRunner {
 public:
  /// A model of its own; its weights are zeros until they are written.
  ModelRunner(const model::ModelConfig& config, const Engine& engine, RunnerOptions options = {});
  /// A model that reads `weights`, which are on the host: in place on the CPU, from a copy on a GPU, which
  /// allocate() makes and reload() renews. They must outlive the runner.
  ModelRunner(const model::ModelConfig& config, graph::ParameterStore& weights, const Engine& engine,
              RunnerOptions options = {});
  ~ModelRunner();

  /// Plans a program; it can run after allocate(). The reference stays valid.
  graph::Program& add(const ProgramSpec& spec);
  /// Takes memory for the programs added so far; nothing where none is new. Throws bad input when a GPU has
  /// too little, before any is taken.
  void allocate();

  const model::ModelConfig& config() const noexcept { return config_; }
  const Engine& engine() const noexcept { return engine_; }
  /// On the engine's device. Whoever changes them says so: weights_changed().
  graph::ParameterStore& weights() noexcept { return *store_; }
  const graph::ParameterStore& weights() const noexcept { return *store_; }
  void weights_changed() noexcept { current_.reset(); }
  void reload();                  ///< follows a change of the weights that were handed over
  void save(Snapshot& to) const;  ///< waits for queued work; allocates on first use
  void load(const Snapshot& from);

  /// Queues what makes the compute weights those of the weights now; nothing where they are. Before every run
  /// of a program that was not prepared otherwise.
  void prepare(ComputeWeights wanted = ComputeWeights::plain);

  /// Sets the tokens of a program that is not sent (and with them the segments of documents).
  void write_tokens(graph::Program& program, std::span<const std::int32_t> tokens) const;

  // A training step: begin_step, zero_gradients, prepare, forward_backward, unfold, the update, end_step.

  /// `longest`: model.documents: attention sees pieces of at most so many tokens; 0: the window.
  void begin_step(int longest = 0) { staging_->begin_step(longest); }
  void zero_gradients();
  /// Queues forward and backward of micro-batches; gradients are added. `fill(i, batch)` writes the i-th, and
  /// is done when this returns.
  void forward_backward(graph::Program& program, std::int64_t micro_batches,
                        const std::function<void(std::int64_t, const MicroBatch&)>& fill);
  /// The step, its update included, is queued: the weights are others.
  void end_step();
  /// Of the oldest step not yet taken; waits for it.
  StepResult take_step() { return staging_->take_step(); }
  /// Steps that may be queued beyond the one that is taken: 0 where nothing is queued.
  int depth() const noexcept { return engine_.cuda() ? HostStaging::steps_in_flight - 1 : 0; }
  /// Fills the inputs of a training program.
  void send(graph::Program& program, const Fill& fill) { staging_->send(program, fill); }
  /// Turns gradients of compute weights into those of the weights, after the last micro-batch.
  void unfold(const graph::Program& program, ComputeWeights read);

  /// The programs behind prepare and unfold, to be part of a recording; null where none is needed.
  graph::Program* refresh_program(ComputeWeights wanted) const;
  graph::Program* unfold_program(const graph::Program& program, ComputeWeights read) const;
  std::size_t programs() const noexcept { return programs_; }  ///< built so far
  std::vector<graph::MemoryLine> memory_table() const { return plan_->memory_table(); }
  void zero_state(std::string_view name) { plan_->zero_state(name); }

 private:
  using Pair = std::array<graph::Program*, 2>;  ///< by ComputeWeights
  void start();
  void add_unfold(const graph::Program& program);
  graph::Program& plan(graph::Graph graph);

  const model::ModelConfig config_;
  const Engine& engine_;
  const RunnerOptions options_;
  const Form form_;
  graph::ParameterStore* source_ = nullptr;     ///< handed over, on the host
  std::unique_ptr<graph::ParameterStore> own_;  ///< none where the source is read in place
  graph::ParameterStore* store_ = nullptr;      ///< which of them programs read
  std::unique_ptr<graph::Plan> plan_;
  std::map<const graph::Program*, Pair> unfold_;
  Pair refresh_ = {};
  std::vector<graph::Fold> folds_;         ///< into compute weights, the same in all programs
  std::optional<ComputeWeights> current_;  ///< what the compute weights are; none: stale
  std::unique_ptr<HostStaging> staging_;
  std::size_t staged_tokens_ = 0, programs_ = 0, allocated_ = 0;
};

/// All values of a store, wherever it is, from and to the host.
std::vector<float> read_weights(const graph::ParameterStore& store);
void write_weights(graph::ParameterStore& store, std::span<const float> flat);

}  // namespace fairway::exec
