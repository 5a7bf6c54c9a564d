#include "derive.h"

#include "fairway/ops/residual.h"

#include <algorithm>

namespace fairway::graph {

using base::check;
using ops::Write;

namespace {
std::size_t at(ValueId v) { return static_cast<std::size_t>(v); }
}  // namespace

void Derivation::run(ValueId loss) {
  auto& g = b_.graph_;
  check(g.at(loss).meta.shape.elements() == 1, "loss has shape {}", g.at(loss).meta.shape.str());
  auto one = std::make_shared<tensor::Array>(Meta{b_.wide(), {1}});
  if (b_.wide() == tensor::DType::f64)
    one->span<double>()[0] = 1.0;
  else
    one->span<float>()[0] = 1.0f;
  const auto seed = b_.constant("dloss", std::move(one));
  gradient_.assign(g.values.size(), absent);
  gradient_[at(g.root(loss))] = seed;

  const auto scope = b_.scope_;
  const auto forward_steps = g.steps.size();
  for (auto s = forward_steps; s-- > 0;) {
    const Step step = g.steps[s];  // a copy: emitting grows the list
    b_.scope(step.scope);
    const auto first = g.steps.size();
    step_backward(step);
    for (auto k = first; k < g.steps.size(); ++k) g.steps[k].is_backward = true;
  }
  b_.scope(scope);
}

void Derivation::step_backward(const Step& step) {
  bool any = false;
  for (auto v : step.out) any = any || (v != absent && gradient_of(v) != absent);
  if (!any) return;
  temporaries_.clear();
  for (const auto& rule : step.op->backward()) {
    if (rule.op)
      emit(step, rule);
    else
      pass_through(step, rule);
  }
}

bool Derivation::wants_gradient(ValueId v) const {
  return v != absent && b_.graph_.at(b_.graph_.root(v)).requires_grad;
}

ValueId Derivation::gradient_of(ValueId v) const {
  const auto root = at(b_.graph_.root(v));
  const auto gradient = root < gradient_.size() ? gradient_[root] : absent;
  return gradient == absent ? absent : b_.reshape(gradient, b_.graph_.at(v).meta.shape);
}

ValueId Derivation::parameter_gradient(ValueId parameter) {
  return b_.gradient(std::string(b_.graph_.at(parameter).name));
}

bool Derivation::is_parameter(ValueId root) const {
  const auto kind = b_.graph_.at(root).kind;
  return kind == BufferKind::parameter || kind == BufferKind::compute;
}

std::pair<ValueId, Write> Derivation::contribute(ValueId v) {
  auto& g = b_.graph_;
  const auto root = g.root(v);
  if (is_parameter(root)) {
    const auto gradient = parameter_gradient(root);  // may add a value: nothing of `g` is held across it
    return {b_.alias(gradient, g.at(v).meta.shape, g.at(v).offset), Write::add};
  }
  if (const auto known = gradient_of(v); known != absent) return {known, Write::add};
  const auto fresh = b_.add_value({.meta = g.at(v).meta});
  gradient_.resize(g.values.size(), absent);
  gradient_[at(root)] = fresh;
  return {fresh, Write::set};
}

ValueId Derivation::read(const Step& forward, const ops::Ref& ref) {
  const auto index = static_cast<std::size_t>(ref.index);
  if (ref.from == ops::Ref::From::temporary) {
    check(index < temporaries_.size() && temporaries_[index] != absent,
          "{}: temporary {} is read before it is made", forward.op->name(), ref.index);
    return temporaries_[index];
  }
  if (ref.from == ops::Ref::From::input) {
    return index < forward.in.size() ? forward.in[index] : absent;
  }
  const auto v = forward.out[index];
  return ref.from == ops::Ref::From::output || v == absent ? v : gradient_of(v);
}

namespace {
/// The forward input whose gradient rule.grads[k] = i is; absent for a temporary or an input that is not
/// there.
ValueId target(const Step& forward, int i) {
  return i >= 0 && at(i) < forward.in.size() ? forward.in[at(i)] : absent;
}
}  // namespace

/// Some output is: a temporary always, since a step that only makes what nobody reads is dropped at the end.
bool Derivation::is_wanted(const Step& forward, const ops::BackwardStep& rule) const {
  return std::any_of(rule.grads.begin(), rule.grads.end(),
                     [&](int i) { return i < 0 || wants_gradient(target(forward, i)); });
}

/// The value that a backward step makes for to_temporary(t).
ValueId Derivation::temporary(int grad, const Step& step, std::size_t output) {
  std::vector<Meta> metas;
  for (auto v : step.in) metas.push_back(v == absent ? Meta{} : b_.graph_.at(v).meta);
  const auto index = at(ops::to_temporary(grad));
  if (temporaries_.size() <= index) temporaries_.resize(index + 1, absent);
  return temporaries_[index] = b_.add_value({.meta = step.op->infer(metas).at(output)});
}

void Derivation::emit(const Step& forward, const ops::BackwardStep& rule) {
  if (!is_wanted(forward, rule)) return;
  Step step{rule.op, {}, {}, {}, b_.scope_, false, true};
  for (const auto& ref : rule.reads) step.in.push_back(read(forward, ref));
  // Two gradients of one value (x + x): the operator adds them up, or the second goes to a scratch of its own
  // and is added afterwards.
  std::vector<std::pair<ValueId, ValueId>> merge;
  for (auto i : rule.grads) {
    if (i < 0) {
      step.out.push_back(temporary(i, step, step.out.size()));
      step.write.push_back(Write::set);
      continue;
    }
    const auto v = target(forward, i);
    const auto place = wants_gradient(v) ? contribute(v) : std::pair{absent, Write::set};
    auto where = place.first;
    auto how = place.second;
    auto same = [&](ValueId earlier) {
      return earlier != absent && where != absent && b_.graph_.root(earlier) == b_.graph_.root(where);
    };
    if (!rule.op->joins_outputs() && std::any_of(step.out.begin(), step.out.end(), same)) {
      const auto scratch = b_.add_value({.meta = b_.graph_.at(where).meta});
      merge.emplace_back(scratch, where);
      where = scratch;
      how = Write::set;
    }
    step.out.push_back(where);
    step.write.push_back(how);
  }
  b_.graph_.steps.push_back(std::move(step));
  for (const auto& [from, to] : merge)
    b_.graph_.steps.push_back(
        {std::make_shared<const ops::Copy>(), {from}, {to}, {Write::add}, b_.scope_, false, true});
}

void Derivation::pass_through(const Step& forward, const ops::BackwardStep& rule) {
  auto& g = b_.graph_;
  const auto v = forward.in[static_cast<std::size_t>(rule.grads.front())];
  const auto out = forward.out[static_cast<std::size_t>(rule.reads.front().index)];
  const auto source = gradient_of(out);
  if (!wants_gradient(v) || source == absent) return;
  const auto output = at(g.root(out));
  taken_.resize(g.values.size(), false);
  const bool is_scratch = g.at(g.root(source)).kind == BufferKind::scratch;
  // The gradient of the output is complete and read by nobody but this step's rules, of which aliases stand
  // last: the first alias takes the buffer over (from step to step along a residual stream), others copy.
  if (!is_parameter(g.root(v)) && gradient_of(v) == absent && is_scratch && !taken_[output]) {
    taken_[output] = true;
    gradient_.resize(g.values.size(), absent);
    gradient_[at(g.root(v))] = b_.reshape(source, g.at(v).meta.shape);
    return;
  }
  auto [where, how] = contribute(v);
  g.steps.push_back({std::make_shared<const ops::Copy>(),
                     {b_.reshape(source, g.at(v).meta.shape)},
                     {where},
                     {how},
                     b_.scope_,
                     false,
                     true});
}

}  // namespace fairway::graph
