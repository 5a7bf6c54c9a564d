#pragma once
// Programs: graphs with memory and kernels bound, and the Plan that holds all programs of a run.

#include "fairway/base/cpu.h"
#include "fairway/base/thread_pool.h"
#include "fairway/graph/builder.h"
#include "fairway/graph/memory_plan.h"
#include "fairway/ops/cuda_work.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace fairway::graph {

/// Where and how programs run.
struct Runtime {
  tensor::Device device;
  base::Isa isa = base::best_isa();
  tensor::DType products = tensor::DType::f32;
  base::ThreadPool* pool = nullptr;  ///< not owned; needed on the CPU
  ops::cuda::State* cuda = nullptr;  ///< not owned; needed on a GPU, of `device`
};

/// One step with its cost and, when measured, its time.
struct StepReport {
  std::string scope, op, attributes, inputs, outputs;
  ops::Cost cost;
  double seconds = 0;
  bool is_backward = false;
};

/// A flat list of kernel calls with every address fixed. Runs allocate nothing. On a GPU a run is queued: the
/// first launches every kernel, later ones replay a recording of it; what the host reads it waits for.
class Program {
 public:
  const std::string& name() const noexcept { return graph_.name; }
  const Graph& graph() const noexcept { return graph_; }
  const MemoryPlan& memory() const noexcept { return memory_; }

  /// A named input, output or state. Inputs hold only until the next run of any program of the plan; outputs
  /// too.
  tensor::View view(std::string_view value_name) const;  ///< memory of the runtime's device
  bool has(std::string_view value_name) const;
  /// Sets an input or state from the host; `values` has its number of elements and its type.
  template <class T>
  void write(std::string_view value_name, std::span<const T> values) {
    write_bytes(checked<T>(value_name, values.size()), values.data());
  }
  template <class T>
  void fill(std::string_view value_name, T value) {
    const std::vector<T> values(static_cast<std::size_t>(view(value_name).elements()), value);
    write<T>(value_name, values);
  }
  /// Copies an output or state to the host, when the work queued so far is done.
  template <class T>
  void read(std::string_view value_name, std::span<T> values) {
    read_bytes(checked<T>(value_name, values.size()), values.data());
  }
  void run();
  /// Queues every kernel and nothing else: for a recording of several programs together.
  void launch();
  /// As run, timing each step: the median of `repeats` runs (steps() afterwards tells the seconds). States
  /// and gradients change as by that many runs.
  void run_measured(int repeats = 1);
  std::vector<StepReport> steps() const;
  ops::Cost cost() const;

 private:
  friend class Plan;
  struct Call {
    ops::Kernel kernel = nullptr;
    const ops::Operator* op = nullptr;
    std::vector<tensor::View> in, out;
    std::vector<ops::Write> write;
    tensor::View workspace;
    double seconds = 0;
  };
  Program(Graph graph, const Runtime& runtime);
  void bind(class Plan& plan);
  void measure_once(std::vector<std::vector<double>>& seconds);
  template <class T>
  tensor::View checked(std::string_view value_name, std::size_t elements) const {
    const auto v = view(value_name);
    base::check(v.dtype() == tensor::dtype_of<T>::value && static_cast<std::size_t>(v.elements()) == elements,
                "'{}' of program '{}' is {} {}, not {} elements", value_name, name(), v.shape().str(),
                tensor::dtype_name(v.dtype()), elements);
    return v;
  }
  void write_bytes(const tensor::View& to, const void* from);
  void read_bytes(const tensor::View& from, void* to);
  tensor::View bound(ValueId v, class Plan& plan) const;

  Graph graph_;
  MemoryPlan memory_;
  ops::Context context_;
  Runtime runtime_;
  std::vector<Call> calls_;
  std::vector<tensor::View> views_;  ///< per value
  bool warm_ = false;                ///< every kernel has run once since the last bind
  std::unique_ptr<ops::cuda::Recording> recording_;
};

/// A line of the memory table.
struct MemoryLine {
  std::string what;
  std::size_t bytes = 0;
  bool shared = false;  ///< lies in the shared arena, which has a line of its own
};
std::size_t total_bytes(std::span<const MemoryLine> table);

/// Every program a run may need, listed before the start, over one arena (the size of the largest), one set
/// of states and the run's parameters. Not thread-safe: one run at a time.
class Plan {
 public:
  /// `parameters` must outlive the plan and stay where it is.
  Plan(ParameterStore& parameters, Runtime runtime);
  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  /// Adds a program; it can run after allocate(). The reference stays valid.
  Program& add(Graph graph);
  /// A program by name; a check error when there is none.
  Program& program(std::string_view name);
  /// Takes all memory. Programs may still be added and allocate() called again (states keep their contents
  /// only when the arena need not move).
  /// Throws bad input when a GPU's free memory is too little, before any is taken.
  void allocate();
  void zero_state(std::string_view name);
  /// What allocate() would hold in all, parameters included: known before anything is taken.
  std::size_t planned_bytes() const;
  std::vector<MemoryLine> memory_table() const;  ///< the same, line by line
  const Runtime& runtime() const noexcept { return runtime_; }
  ParameterStore& parameters() noexcept { return parameters_; }

 private:
  friend class Program;
  struct Stored {
    Meta meta;
    tensor::Buffer buffer;
  };
  void expect_room() const;
  void check_folds(const Graph& graph);

  ParameterStore& parameters_;
  Runtime runtime_;
  std::vector<std::unique_ptr<Program>> programs_;
  std::map<std::string, std::string>
      folds_;  ///< of each compute weight that a program reads: its scale, or ""
  std::map<std::string, Stored, std::less<>> states_;
  std::vector<std::pair<std::shared_ptr<const tensor::Array>, tensor::Buffer>> constants_;
  tensor::Buffer arena_;
};

}  // namespace fairway::graph
