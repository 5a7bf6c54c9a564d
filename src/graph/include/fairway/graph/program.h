#pragma once
// Programs: graphs with memory and kernels bound, and the Plan that holds all programs of a run.

#include "fairway/base/cpu.h"
#include "fairway/base/thread_pool.h"
#include "fairway/graph/builder.h"
#include "fairway/graph/memory_plan.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace fairway::graph {

/// Where and how programs run.
struct Runtime {
  tensor::Device device;
  base::Isa isa = base::best_isa();
  ops::Products products = ops::Products::f32;
  base::ThreadPool* pool = nullptr;  ///< not owned; needed on the CPU
};

/// One step with its cost and, when measured, its time.
struct StepReport {
  std::string scope, op, attributes, inputs, outputs;
  ops::Cost cost;
  double seconds = 0;
  bool is_backward = false;
};

/// A flat list of kernel calls with every address fixed. Runs allocate nothing.
class Program {
 public:
  const std::string& name() const noexcept { return graph_.name; }
  const Graph& graph() const noexcept { return graph_; }
  const MemoryPlan& memory() const noexcept { return memory_; }

  /// A named input, output or state. Inputs hold only until the next run of any program of the plan; outputs
  /// too.
  tensor::View view(std::string_view value_name) const;
  void run();
  /// As run, timing each step (steps() afterwards tells the seconds).
  void run_measured();
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
  tensor::View bound(ValueId v, class Plan& plan) const;

  Graph graph_;
  MemoryPlan memory_;
  ops::Context context_;
  Runtime runtime_;
  std::vector<Call> calls_;
  std::vector<tensor::View> views_;  ///< per value
};

/// A line of the memory table.
struct MemoryLine {
  std::string what;
  std::size_t bytes = 0;
};

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
  void allocate();
  void zero_state(std::string_view name);
  std::vector<MemoryLine> memory_table() const;
  const Runtime& runtime() const noexcept { return runtime_; }
  ParameterStore& parameters() noexcept { return parameters_; }

 private:
  friend class Program;
  struct Stored {
    Meta meta;
    tensor::Buffer buffer;
  };
  ParameterStore& parameters_;
  Runtime runtime_;
  std::vector<std::unique_ptr<Program>> programs_;
  std::map<std::string, Stored, std::less<>> states_;
  std::vector<std::pair<std::shared_ptr<const tensor::Array>, tensor::Buffer>> constants_;
  tensor::Buffer arena_;
};

}  // namespace fairway::graph
