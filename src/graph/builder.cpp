#include "fairway/graph/builder.h"

#include "derive.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/residual.h"

namespace fairway::graph {

using base::check;

Builder::Builder(std::string name, const ParameterLayout& layout, tensor::DType dtype,
                 std::function<bool(std::string_view)> trainable)
    : layout_(layout), dtype_(dtype), trainable_(std::move(trainable)) {
  graph_.name = std::move(name);
}

ValueId Builder::add_value(Value value) {
  const auto id = static_cast<ValueId>(graph_.values.size());
  if (value.root == absent) value.root = id;
  graph_.values.push_back(std::move(value));
  return id;
}

ValueId Builder::input(std::string name, Meta meta) {
  return add_value({.name = std::move(name), .meta = meta, .kind = BufferKind::input});
}

ValueId Builder::constant(std::string name, std::shared_ptr<const tensor::Array> data) {
  auto id = add_value({.name = std::move(name), .meta = data->meta(), .kind = BufferKind::constant});
  graph_.constants.push_back({id, std::move(data)});
  return id;
}

ValueId Builder::state(std::string name, Meta meta) {
  for (const auto& v : graph_.values)
    check(v.kind != BufferKind::state || v.name != name, "program '{}' has two states '{}'", graph_.name,
          name);
  return add_value({.name = std::move(name), .meta = meta, .kind = BufferKind::state});
}

ValueId Builder::parameter(std::string_view name) { return stored(name, BufferKind::parameter); }
ValueId Builder::compute_weight(std::string_view name) { return stored(name, BufferKind::compute); }

ValueId Builder::gradient(std::string_view name) {
  if (auto it = gradients_.find(name); it != gradients_.end()) return it->second;
  const auto& p = layout_.find(name);
  auto id = add_value({.name = p.name, .meta = {wide(), p.shape}, .kind = BufferKind::gradient});
  gradients_.emplace(p.name, id);
  return id;
}

ValueId Builder::stored(std::string_view name, BufferKind kind) {
  auto& known = kind == BufferKind::parameter ? parameters_ : compute_;
  if (auto it = known.find(name); it != known.end()) return it->second;
  const auto& p = layout_.find(name);
  bool trains = false;
  const auto parts = layout_.parts(name);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool t = trainable_ && trainable_(parts[i]);
    check(i == 0 || t == trains, "parts of '{}' are not all trainable or all frozen", name);
    trains = t;
  }
  const auto dtype = kind == BufferKind::parameter ? wide() : dtype_;
  auto id = add_value({.name = p.name, .meta = {dtype, p.shape}, .kind = kind, .requires_grad = trains});
  known.emplace(p.name, id);
  return id;
}

std::vector<ValueId> Builder::record(ops::OperatorPtr op, std::vector<ValueId> in, bool stateful) {
  std::vector<Meta> metas;
  bool requires_grad = false;
  const bool differentiable = !op->backward().empty();
  for (auto v : in) {
    metas.push_back(v == absent ? Meta{} : graph_.at(v).meta);
    if (v != absent) requires_grad = requires_grad || (differentiable && graph_.at(v).requires_grad);
  }
  std::vector<ValueId> out;
  for (const auto& meta : op->infer(metas))
    out.push_back(add_value({.meta = meta, .requires_grad = requires_grad}));
  std::vector<ops::Write> write(out.size(), ops::Write::set);
  graph_.steps.push_back({std::move(op), std::move(in), out, std::move(write), scope_, stateful, false});
  return out;
}

std::vector<ValueId> Builder::apply(ops::OperatorPtr op, std::initializer_list<ValueId> in) {
  return record(std::move(op), std::vector<ValueId>(in), false);
}
std::vector<ValueId> Builder::apply(ops::OperatorPtr op, std::vector<ValueId> in) {
  return record(std::move(op), std::move(in), false);
}
std::vector<ValueId> Builder::apply_stateful(ops::OperatorPtr op, std::vector<ValueId> in) {
  return record(std::move(op), std::move(in), true);
}

void Builder::write(ops::OperatorPtr op, std::vector<ValueId> in, std::vector<ValueId> out) {
  std::vector<Meta> metas;
  for (auto v : in) metas.push_back(v == absent ? Meta{} : graph_.at(v).meta);
  const auto made = op->infer(metas);
  check(made.size() == out.size(), "{} makes {} outputs, not {}", op->name(), made.size(), out.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] == absent) continue;
    const auto& target = graph_.at(out[i]);
    check(target.kind == BufferKind::compute || target.kind == BufferKind::gradient, "{} writes into a {}",
          op->name(), buffer_kind_name(target.kind));
    check(target.meta == made[i], "{} makes {} for '{}', which is {}", op->name(), made[i].shape.str(),
          target.name, target.meta.shape.str());
  }
  std::vector<ops::Write> write(out.size(), ops::Write::set);
  graph_.steps.push_back(
      {std::move(op), std::move(in), std::move(out), std::move(write), scope_, false, false});
}

void Builder::update_state(ValueId target, ValueId source) {
  check(graph_.at(target).kind == BufferKind::state, "update_state of a {}",
        buffer_kind_name(graph_.at(target).kind));
  const auto shaped = reshape(source, graph_.at(target).meta.shape);
  graph_.steps.push_back(
      {std::make_shared<const ops::Copy>(), {shaped}, {target}, {ops::Write::set}, scope_, true, false});
}

ValueId Builder::linear(ValueId x, ValueId weight) { return op1<ops::Matmul>({x, weight}, false, true); }

ValueId Builder::reshape(ValueId v, tensor::Shape shape) {
  if (graph_.at(v).meta.shape == shape) return v;
  const auto& value = graph_.at(v);
  check(shape.elements() == value.meta.shape.elements(), "reshape of {} to {}", value.meta.shape.str(),
        shape.str());
  return alias(v, shape, value.offset);
}

ValueId Builder::alias(ValueId v, tensor::Shape shape, std::int64_t offset) {
  Value copy = graph_.at(v);
  copy.meta.shape = shape;
  copy.offset = offset;
  copy.output = false;
  return add_value(std::move(copy));
}

ValueId Builder::slice(ValueId parameter, std::int64_t offset, tensor::Shape shape) {
  const auto& value = graph_.at(parameter);
  check(value.kind == BufferKind::parameter, "slice of a {}", buffer_kind_name(value.kind));
  check(offset >= 0 && offset + shape.elements() <= value.meta.shape.elements(), "slice {} at {} of {}",
        shape.str(), offset, value.meta.shape.str());
  return alias(parameter, shape, value.offset + offset);
}

void Builder::output(ValueId v, std::string name) {
  auto& value = graph_.at(v);
  value.output = true;
  value.name = std::move(name);
}

namespace {

/// Inputs that name a gradient have served when backward is derived.
void drop_gradient_only(Graph& graph) {
  for (auto& step : graph.steps)
    for (auto i : step.op->gradient_only()) step.in.at(static_cast<std::size_t>(i)) = absent;
}

/// Marks what is needed, from the last step to the first; a step lives when it writes a gradient, a state or
/// a value that is read later or by the host.
void drop_dead_steps(Graph& graph) {
  std::vector<bool> needed(graph.values.size(), false);
  for (const auto& v : graph.values)
    if (v.output || v.kind == BufferKind::gradient || v.kind == BufferKind::compute ||
        v.kind == BufferKind::state)
      needed[static_cast<std::size_t>(v.root)] = true;
  std::vector<Step> kept;
  for (auto it = graph.steps.rbegin(); it != graph.steps.rend(); ++it) {
    bool alive = it->writes_state;
    for (auto& v : it->out) {
      if (v == absent) continue;
      if (needed[static_cast<std::size_t>(graph.root(v))])
        alive = true;
      else
        v = absent;  // an unwanted output: the kernel skips its work
    }
    if (!alive) continue;
    for (auto v : it->in)
      if (v != absent) needed[static_cast<std::size_t>(graph.root(v))] = true;
    kept.push_back(std::move(*it));
  }
  graph.steps.assign(std::make_move_iterator(kept.rbegin()), std::make_move_iterator(kept.rend()));
}

}  // namespace

Graph Builder::finish(const Passes& passes, ValueId loss) {
  rewrite(graph_, passes);
  if (loss != absent) Derivation(*this).run(loss);
  drop_gradient_only(graph_);
  drop_dead_steps(graph_);
  rewrite_derived(graph_, passes);
  Graph result = std::move(graph_);
  graph_ = {};
  parameters_.clear();
  compute_.clear();
  gradients_.clear();
  return result;
}

}  // namespace fairway::graph
