#include "fairway/graph/program.h"

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/ops/registry.h"
#include "fairway/tensor/cuda.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace fairway::graph {

using base::check;
using tensor::View;

Program::Program(Graph graph, const Runtime& runtime)
    : graph_(std::move(graph)), memory_(plan_memory(graph_)), runtime_(runtime) {
  context_.pool = runtime.pool;
  context_.products = runtime.products;
  if (runtime.device.is_cuda()) {
    check(runtime.cuda && runtime.cuda->device() == runtime.device, "program '{}' has no state for {}",
          graph_.name, runtime.device.str());
    context_.cuda = runtime.cuda;
    context_.stream = runtime.cuda->stream();
  }
  for (const auto& step : graph_.steps) {
    Call call;
    call.kernel = ops::find_kernel(step.op->name(), runtime.device, runtime.isa);
    call.op = step.op.get();
    call.write = step.write;
    calls_.push_back(std::move(call));
  }
}

View Program::bound(ValueId v, Plan& plan) const {
  const auto& value = graph_.at(v);
  const auto& root = graph_.at(value.root);
  auto part = [&](const View& whole) -> View {
    check(static_cast<bool>(whole), "program '{}' trains '{}' but the store has no gradients", name(),
          root.name);
    check(whole.dtype() == value.meta.dtype, "program '{}' wants the {} of '{}' in {}, the store has {}",
          name(), buffer_kind_name(root.kind), root.name, tensor::dtype_name(value.meta.dtype),
          tensor::dtype_name(whole.dtype()));
    const auto skip = static_cast<std::size_t>(value.offset) * tensor::size_of(value.meta.dtype);
    return {static_cast<std::byte*>(whole.data) + skip, value.meta};
  };
  switch (root.kind) {
    case BufferKind::parameter:
      return part(plan.parameters_.value(root.name));
    case BufferKind::compute:
      return part(plan.parameters_.compute_weight(root.name));
    case BufferKind::gradient:
      return part(plan.parameters_.gradient(root.name));
    case BufferKind::state:
      return {plan.states_.find(root.name)->second.buffer.data(), value.meta};
    case BufferKind::constant:
      for (const auto& c : graph_.constants)
        if (c.value == value.root)
          for (const auto& [array, buffer] : plan.constants_)
            if (array == c.data) return {buffer.data(), value.meta};
      return {};
    default:
      break;
  }
  const auto offset = memory_.offset[static_cast<std::size_t>(value.root)];
  if (offset < 0) return {nullptr, value.meta};  // never used
  return {plan.arena_.data() + offset, value.meta};
}

void Program::bind(Plan& plan) {
  recording_.reset();  // its addresses may be old
  warm_ = false;
  views_.clear();
  for (std::size_t v = 0; v < graph_.values.size(); ++v)
    views_.push_back(bound(static_cast<ValueId>(v), plan));
  auto pick = [&](const std::vector<ValueId>& ids) {
    std::vector<View> result;
    for (auto v : ids) result.push_back(v == absent ? View{} : views_[static_cast<std::size_t>(v)]);
    return result;
  };
  for (std::size_t s = 0; s < calls_.size(); ++s) {
    calls_[s].in = pick(graph_.steps[s].in);
    calls_[s].out = pick(graph_.steps[s].out);
    if (memory_.workspace_bytes[s])
      calls_[s].workspace = {plan.arena_.data() + memory_.workspace_offset[s],
                             {tensor::DType::u8, {static_cast<std::int64_t>(memory_.workspace_bytes[s])}}};
  }
}

View Program::view(std::string_view value_name) const {
  check(!views_.empty() || graph_.values.empty(), "program '{}' runs before its plan is allocated", name());
  return views_[static_cast<std::size_t>(graph_.find(value_name))];
}

bool Program::has(std::string_view value_name) const {
  return std::ranges::any_of(graph_.values, [&](const Value& v) { return v.name == value_name; });
}

void Program::write_bytes(const View& to, const void* from) {
  if (context_.cuda)
    ops::cuda::upload(*context_.cuda, to.data, from, to.bytes());
  else
    std::memcpy(to.data, from, to.bytes());
}

void Program::read_bytes(const View& from, void* to) {
  if (!context_.cuda) {
    std::memcpy(to, from.data, from.bytes());
    return;
  }
  ops::cuda::download(*context_.cuda, to, from.data, from.bytes());
  context_.cuda->synchronize();
}

void Program::launch() {
  for (auto& c : calls_) c.kernel({*c.op, c.in, c.out, c.write, c.workspace, context_});
}

void Program::run() {
  check(!views_.empty(), "program '{}' runs before its plan is allocated", name());
  if (!context_.cuda) return launch();
  const ops::cuda::ProfilerRange range(graph_.name.c_str());
  // Loading a kernel cannot be recorded, so the first run is not.
  if (!warm_) {
    launch();
    warm_ = true;
    return;
  }
  if (!recording_) recording_ = std::make_unique<ops::cuda::Recording>(*context_.cuda, [this] { launch(); });
  recording_->replay();
}

void Program::measure_once(std::vector<std::vector<double>>& seconds) {
  if (!context_.cuda) {
    for (std::size_t s = 0; s < calls_.size(); ++s) {
      auto& c = calls_[s];
      base::Stopwatch watch;
      c.kernel({*c.op, c.in, c.out, c.write, c.workspace, context_});
      seconds[s].push_back(watch.seconds());
    }
    return;
  }
  std::vector<ops::cuda::Event> marks;
  for (std::size_t s = 0; s <= calls_.size(); ++s) marks.emplace_back(true);
  marks[0].record(*context_.cuda);
  for (std::size_t s = 0; s < calls_.size(); ++s) {
    auto& c = calls_[s];
    const ops::cuda::ProfilerRange range(graph_.steps[s].scope.c_str());
    c.kernel({*c.op, c.in, c.out, c.write, c.workspace, context_});
    marks[s + 1].record(*context_.cuda);
  }
  context_.cuda->synchronize();
  for (std::size_t s = 0; s < calls_.size(); ++s) seconds[s].push_back(marks[s + 1].seconds_since(marks[s]));
}

void Program::run_measured(int repeats) {
  check(!views_.empty(), "program '{}' runs before its plan is allocated", name());
  std::vector<std::vector<double>> seconds(calls_.size());
  for (int i = 0; i < std::max(1, repeats); ++i) measure_once(seconds);
  warm_ = true;
  for (std::size_t s = 0; s < calls_.size(); ++s) {
    auto& times = seconds[s];
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    calls_[s].seconds = *middle;
  }
}

std::vector<StepReport> Program::steps() const {
  std::vector<StepReport> result;
  auto shapes = [&](const std::vector<ValueId>& ids) {
    std::string text;
    for (auto v : ids) {
      if (!text.empty()) text += ' ';
      text += v == absent ? "-" : graph_.at(v).meta.shape.str();
    }
    return text;
  };
  for (std::size_t s = 0; s < graph_.steps.size(); ++s) {
    const auto& step = graph_.steps[s];
    result.push_back({step.scope, std::string(step.op->name()), step.op->attributes(), shapes(step.in),
                      shapes(step.out), graph_.cost(step), calls_[s].seconds, step.is_backward});
  }
  return result;
}

ops::Cost Program::cost() const {
  ops::Cost total;
  for (const auto& step : graph_.steps) {
    const auto c = graph_.cost(step);
    total.flops += c.flops;
    total.bytes += c.bytes;
  }
  return total;
}

Plan::Plan(ParameterStore& parameters, Runtime runtime) : parameters_(parameters), runtime_(runtime) {}
Plan::~Plan() = default;

/// One compute weight is read by several programs: all agree on what it holds.
void Plan::check_folds(const Graph& graph) {
  for (const auto& v : graph.values) {
    if (v.kind != BufferKind::compute) continue;
    const auto fold = std::ranges::find(graph.folds, v.name, &Fold::weight);
    const std::string scale = fold == graph.folds.end() ? "" : fold->scale;
    const auto known = folds_.try_emplace(v.name, scale).first;
    check(known->second == scale, "program '{}' reads '{}' with the scale '{}', another one with '{}'",
          graph.name, v.name, scale, known->second);
  }
}

Program& Plan::add(Graph graph) {
  check_folds(graph);
  programs_.push_back(std::unique_ptr<Program>(new Program(std::move(graph), runtime_)));
  return *programs_.back();
}

Program& Plan::program(std::string_view name) {
  const auto found = std::ranges::find_if(programs_, [&](const auto& p) { return p->name() == name; });
  check(found != programs_.end(), "no program '{}'", name);
  return **found;
}

/// What runs out of memory here would do so in the middle of an allocation: the whole is known before.
void Plan::expect_room() const {
  if (!runtime_.device.is_cuda()) return;
  std::size_t held = parameters_.bytes() + arena_.bytes();
  for (const auto& [name, s] : states_) held += s.buffer.bytes();
  for (const auto& [array, buffer] : constants_) held += buffer.bytes();
  const auto free = tensor::cuda_device(runtime_.device).free_bytes;
  if (const auto needed = planned_bytes(); needed > held + free)
    base::fail_input("{}: {} needed, {} are free; make room there, or use --device cpu",
                     runtime_.device.str(), base::human_bytes(needed - held), base::human_bytes(free));
}

void Plan::allocate() {
  expect_room();
  std::size_t arena = arena_.bytes();
  for (auto& p : programs_) {
    check(p->graph_.folds.empty() || parameters_.has_compute_weights(),
          "program '{}' reads scaled compute weights, of which there are none", p->name());
    arena = std::max(arena, p->memory_.arena_bytes);
    for (const auto& v : p->graph_.values) {
      if (v.kind != BufferKind::state) continue;
      auto it = states_.find(v.name);
      if (it == states_.end())
        states_.emplace(v.name, Stored{v.meta, tensor::Buffer(runtime_.device, v.meta.bytes())});
      else
        check(it->second.meta.bytes() == v.meta.bytes(), "state '{}' has two sizes", v.name);
    }
    for (const auto& c : p->graph_.constants) {
      bool known = false;
      for (const auto& [array, buffer] : constants_) known = known || array == c.data;
      if (known) continue;
      tensor::Buffer buffer(runtime_.device, c.data->meta().bytes());
      tensor::copy_bytes(runtime_.device, buffer.data(), {}, c.data->view().data, buffer.bytes());
      constants_.emplace_back(c.data, std::move(buffer));
    }
  }
  if (arena > arena_.bytes()) arena_ = tensor::Buffer(runtime_.device, arena);
  for (auto& p : programs_) p->bind(*this);
}

void Plan::zero_state(std::string_view name) {
  auto it = states_.find(name);
  check(it != states_.end(), "no state '{}'", name);
  auto& buffer = it->second.buffer;
  if (runtime_.cuda)  // in the order of the queue
    ops::cuda::zero_on_device(*runtime_.cuda, buffer.data(), buffer.bytes());
  else
    tensor::zero_bytes(runtime_.device, buffer.data(), buffer.bytes());
}

std::size_t Plan::planned_bytes() const { return total_bytes(memory_table()); }

std::vector<MemoryLine> Plan::memory_table() const {
  std::vector<MemoryLine> table;
  const auto values = parameters_.flat_values().bytes();
  table.push_back({"parameters", values});
  if (parameters_.has_gradients()) table.push_back({"gradients", values});
  if (parameters_.has_compute_weights())
    table.push_back(
        {"compute weights", parameters_.bytes() - values - (parameters_.has_gradients() ? values : 0)});
  std::size_t arena = 0, states = 0, constants = 0;
  std::set<std::string_view> known_states;
  std::set<const tensor::Array*> known_constants;
  for (const auto& p : programs_) {
    arena = std::max(arena, p->memory_.arena_bytes);
    for (const auto& v : p->graph_.values)
      if (v.kind == BufferKind::state && known_states.insert(v.name).second) states += v.meta.bytes();
    for (const auto& c : p->graph_.constants)
      if (known_constants.insert(c.data.get()).second) constants += c.data->meta().bytes();
  }
  if (states) table.push_back({"states", states});
  table.push_back({"constants", constants});
  for (const auto& p : programs_) table.push_back({"arena of " + p->name(), p->memory_.arena_bytes, true});
  table.push_back({"arena (shared)", arena});
  return table;
}

std::size_t total_bytes(std::span<const MemoryLine> table) {
  std::size_t sum = 0;
  for (const auto& line : table)
    if (!line.shared) sum += line.bytes;
  return sum;
}

}  // namespace fairway::graph
