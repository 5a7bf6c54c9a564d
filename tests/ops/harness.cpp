#include "ops/harness.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "fairway/base/clock.h"
#include "ops/harness_run.h"

namespace fairway::ops::harness {
namespace {

/// The instruction sets of this machine that have a kernel of their own for this operator, weakest first.
std::vector<base::Isa> distinct_isas(const Operator& op) {
  std::vector<base::Isa> result;
  for (int i = 0; i <= static_cast<int>(base::best_isa()); ++i) {
    const auto isa = static_cast<base::Isa>(i);
    if (result.empty() || find_kernel(op.name(), {}, isa) != find_kernel(op.name(), {}, result.back()))
      result.push_back(isa);
  }
  return result;
}

bool has_gradient(const Forward& f) {
  return std::any_of(f.grads.begin(), f.grads.end(),
                     [](const Block& b) { return static_cast<bool>(b.view()); });
}

}  // namespace

bool reads_any_gradient(const Forward& f, const BackwardStep& step) {
  return std::any_of(step.reads.begin(), step.reads.end(), [&](const Ref& r) {
    const auto index = static_cast<std::size_t>(r.index);
    if (r.from == Ref::From::grad_output) return static_cast<bool>(f.grads.at(index).view());
    return r.from == Ref::From::temporary && index < f.temporaries.size();
  });
}

namespace {

/// Content that an output is added to. In bf16 of the output's sign: the output was rounded once more when it
/// was computed alone, which shows where the two cancel.
std::vector<double> known_content(const OpCase& c, const std::string& purpose, const Block& output) {
  auto content = noise(c, purpose, output.meta());
  if (!c.narrow) return content;
  const auto values = output.values();
  for (std::size_t i = 0; i < values.size(); ++i) content[i] = std::copysign(content[i], values[i]);
  return content;
}

std::string label(const BackwardStep& step, std::size_t k) {
  return fmt::format("{} -> gradient of input {}", step.op ? step.op->name() : "alias", step.grads[k]);
}

/// Gradients of each input, summed over all steps and aliases, as the graph would do it.
std::vector<std::vector<double>> input_gradients(const OpCase& c, const Setting& s, const Forward& f,
                                                 std::string& problem) {
  std::vector<std::vector<double>> sum(c.inputs.size());
  auto add = [&](int input, const std::vector<double>& values) {
    auto& to = sum.at(static_cast<std::size_t>(input));
    if (to.empty()) to.assign(values.size(), 0.0);
    if (to.size() != values.size())
      return complain(problem, fmt::format("gradient of input {} has another size", input));
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += values[i];
  };
  for (const BackwardStep& step : c.op->backward()) {
    if (!reads_any_gradient(f, step)) continue;
    if (!step.op) {
      add(step.grads.at(0), f.grads.at(static_cast<std::size_t>(step.reads.at(0).index)).values());
      continue;
    }
    Blocks out = execute(c, s, {*step.op, gather_reads(f, step), {}, {}, {}}, problem);
    if (out.size() != step.grads.size())
      complain(problem, fmt::format("{}: {} outputs for {} gradients", step.op->name(), out.size(),
                                    step.grads.size()));
    for (std::size_t k = 0; k < std::min(out.size(), step.grads.size()); ++k) {
      if (step.grads[k] < 0) continue;
      if (out[k].meta().shape != f.in.at(static_cast<std::size_t>(step.grads[k])).meta().shape &&
          f.in[static_cast<std::size_t>(step.grads[k])].view())
        complain(problem, label(step, k) + ": shape differs from the input's");
      add(step.grads[k], out[k].values());
    }
  }
  return sum;
}

/// The scalar whose derivative is checked: sum over outputs of projection . output.
double project(const OpCase& c, const Setting& s, const std::vector<std::vector<double>>& values,
               const Forward& f, std::string& problem) {
  Blocks in = make_inputs(c, s.f64, values);
  Blocks out = execute(c, s, {*c.op, views(in), {}, {}, {}}, problem);
  double sum = 0;
  for (std::size_t k = 0; k < out.size(); ++k) {
    const std::vector<double> w = f.grads[k].values(), y = out[k].values();
    for (std::size_t i = 0; i < w.size(); ++i) sum += w[i] * y[i];
  }
  return sum;
}

/// Central differences at probed elements, and along one random direction that touches every element.
void differentiate(const OpCase& c, const Setting& s, const Forward& f, std::size_t input,
                   const std::vector<double>& gradient, const std::string& what, std::string& problem) {
  auto values = input_values(c);
  const std::vector<double> origin = values[input];
  base::Random random(c.seed, "probe " + std::to_string(input));
  auto derivative = [&](const std::function<double(std::size_t)>& direction) {
    double side[2];
    for (int sign = 0; sign < 2; ++sign) {
      for (std::size_t i = 0; i < origin.size(); ++i)
        values[input][i] = origin[i] + (sign ? -c.epsilon : c.epsilon) * direction(i);
      side[sign] = project(c, s, values, f, problem);
    }
    return (side[0] - side[1]) / (2 * c.epsilon);
  };
  double squares = 0;
  for (double g : gradient) squares += g * g;
  const double rms = std::sqrt(squares / static_cast<double>(gradient.size()));
  auto judge = [&](const std::string& where, double got, double want, double scale) {
    if (!(std::abs(got - want) <= c.gradient_tolerance * (std::abs(want) + scale) + 1e-9))
      complain(problem, fmt::format("{}: input {} {}: backward says {:.9g}, differences say {:.9g}", what,
                                    input, where, got, want));
  };
  const std::size_t probes = std::min<std::size_t>(origin.size(), static_cast<std::size_t>(c.probes));
  for (std::size_t p = 0; p < probes; ++p) {
    const std::size_t at = probes == origin.size() ? p : random.below(p, origin.size());
    judge(fmt::format("element {}", at), gradient[at],
          derivative([&](std::size_t i) { return i == at ? 1.0 : 0.0; }), rms);
  }
  const base::Random way(c.seed, "direction " + std::to_string(input));
  double along = 0;
  for (std::size_t i = 0; i < origin.size(); ++i) along += gradient[i] * way.normal(i);
  judge("along a direction", along, derivative([&](std::size_t i) { return way.normal(i); }),
        rms * std::sqrt(static_cast<double>(origin.size())));
}

/// Any two gradients of one shape in one array, set and added to known content.
void check_joined_outputs(const OpCase& c, const Setting& s, const BackwardStep& step,
                          const std::vector<View>& reads, const std::vector<std::vector<double>>& want,
                          const std::vector<std::vector<double>>& content, double tolerance,
                          std::string& problem) {
  const auto shapes = step.op->infer(metas(reads));
  for (std::size_t a = 0; a < shapes.size(); ++a)
    for (std::size_t b = a + 1; b < shapes.size(); ++b) {
      if (shapes[a] != shapes[b]) continue;
      for (const bool added : {false, true}) {
        Call call{*step.op, reads, {}, {}, {}};
        if (added) call.content = content;
        call.joined = {static_cast<int>(a), static_cast<int>(b)};
        const Blocks together = execute(c, s, call, problem);
        std::vector<double> expected = want[a];
        for (std::size_t i = 0; i < expected.size(); ++i)
          expected[i] += want[b][i] + (added ? content[a][i] : 0.0);
        compare(problem, label(step, a) + fmt::format(" (joined with that of input {})", step.grads[b]),
                together[a].values(), expected, tolerance, c.norm_tolerance);
      }
    }
}

/// Each gradient wanted alone and unwanted alone, and added to known content.
void check_step_outputs(const OpCase& c, const Setting& s, const Forward& f, const BackwardStep& step,
                        double tolerance, std::string& problem) {
  if (!step.op || !reads_any_gradient(f, step)) return;
  const std::vector<View> reads = gather_reads(f, step);
  const Blocks all = execute(c, s, {*step.op, reads, {}, {}, {}}, problem);
  const std::size_t n = all.size();
  std::vector<std::vector<double>> want(n), content(n);
  for (std::size_t k = 0; k < n; ++k) {
    want[k] = all[k].values();
    compare(problem, label(step, k), want[k], want[k], tolerance);  // finite: the same bytes could be NaN
    content[k] = known_content(c, fmt::format("content {}", k), all[k]);
  }
  for (std::size_t alone = 0; n > 1 && alone < 2 * n; ++alone) {
    std::vector<bool> wanted(n, alone >= n);
    wanted[alone % n] = alone < n;
    const Blocks part = execute(c, s, {*step.op, reads, wanted, {}, {}}, problem);
    for (std::size_t k = 0; k < n; ++k)
      if (wanted[k] && !part[k].same_bytes(all[k]))
        compare(problem, label(step, k) + (alone < n ? " (wanted alone)" : " (another unwanted)"),
                part[k].values(), want[k], tolerance, c.norm_tolerance);
  }
  const Blocks sum = execute(c, s, {*step.op, reads, {}, content, {}}, problem);
  for (std::size_t k = 0; k < n; ++k) {
    std::vector<double> expected = content[k];
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += want[k][i];
    compare(problem, label(step, k) + " (added)", sum[k].values(), expected, tolerance, c.norm_tolerance);
    if (step.op->joins_outputs()) check_joined_outputs(c, s, step, reads, want, content, tolerance, problem);
  }
}

std::string difference(const Block& got, const Block& want) {
  const auto a = got.values(), b = want.values();
  std::size_t count = 0, worst = 0;
  const auto distance = [&](std::size_t i) { return std::abs(a[i] - b[i]); };
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    count += a[i] == b[i] ? 0 : 1;
    if (!(distance(i) <= distance(worst))) worst = i;
  }
  return fmt::format("{} of {} elements, most at {}: {} instead of {}", count, a.size(), worst, a[worst],
                     b[worst]);
}

/// Every in-place pair of an operator gives the bytes of the plain call.
void check_in_place(const OpCase& c, const Setting& s, const Operator& op, const Forward& plain,
                    const BackwardStep* step, std::string& problem) {
  for (const InPlace& pair : op.in_place()) {
    const Forward shared = run_forward(c, s, none, problem);
    auto reads = [&](const Forward& f) { return step ? gather_reads(f, *step) : views(f.in); };
    const std::vector<View> in = reads(shared);
    if (!in.at(static_cast<std::size_t>(pair.input))) continue;
    // Memory that two inputs of this step share would be clobbered for the other one; the planner knows, the
    // harness skips.
    const Blocks want = execute(c, s, {op, reads(plain), {}, {}, {}}, problem);
    const Blocks got = execute(c, s, {op, in, {}, {}, pair}, problem);
    for (std::size_t k = 0; k < want.size(); ++k)
      if (c.in_place_rounds && c.narrow)
        compare(problem, fmt::format("{} in place", op.name()), got[k].values(), want[k].values(),
                c.tolerance, c.norm_tolerance);
      else if (!got[k].same_bytes(want[k]))
        complain(problem, fmt::format("{}: output {} in place of input {}: output {} differs: {}", op.name(),
                                      pair.output, pair.input, k, difference(got[k], want[k])));
  }
}

}  // namespace

Everything run_everything(const OpCase& c, const Setting& s, std::string& problem) {
  Everything e{run_forward(c, s, none, problem), {}};
  if (has_gradient(e.forward)) e.gradients = input_gradients(c, s, e.forward, problem);
  return e;
}

namespace {

/// Forward and backward of the f32 form under `s` against reference values.
void compare_forms(const OpCase& c, const Setting& s, const Everything& want, std::string& problem) {
  const std::string isa = s.place();
  const Everything got = run_everything(c, s, problem);
  for (std::size_t k = 0; k < want.forward.out.size(); ++k)
    compare(problem, fmt::format("output {} ({})", k, isa), got.forward.out[k].values(),
            want.forward.out[k].values(), c.tolerance, c.norm_tolerance);
  for (std::size_t i = 0; i < c.inputs.size(); ++i)
    if (c.inputs[i].state)
      compare(problem, fmt::format("state {} ({})", i, isa), got.forward.in[i].values(),
              want.forward.in[i].values(), c.tolerance, c.norm_tolerance);
  for (std::size_t i = 0; i < want.gradients.size(); ++i)
    compare(problem, fmt::format("gradient of input {} ({})", i, isa), got.gradients.at(i), want.gradients[i],
            c.tolerance, c.norm_tolerance);
  if (!has_gradient(got.forward)) return;
  for (const BackwardStep& step : c.op->backward())
    check_step_outputs(c, s, got.forward, step, c.tolerance, problem);
}

void check_forward_add(const OpCase& c, const Setting& s, std::string& problem) {
  for (int output : c.add_outputs) {
    const auto k = static_cast<std::size_t>(output);
    const Forward plain = run_forward(c, s, none, problem), fresh = run_forward(c, s, none, problem);
    std::vector<double> expected = plain.out.at(k).values();
    std::vector<std::vector<double>> content(plain.out.size());
    content[k] = known_content(c, "content", plain.out[k]);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += content[k][i];
    const Blocks sum = execute(c, s, {*c.op, views(fresh.in), {}, content, {}}, problem);
    compare(problem, fmt::format("output {} (added)", output), sum[k].values(), expected, c.tolerance,
            c.norm_tolerance);
  }
}

}  // namespace

std::string prefixed(const OpCase& c, const std::string& check, const std::string& problems) {
  std::string result;
  std::size_t start = 0;
  for (std::size_t end; (end = problems.find('\n', start)) != std::string::npos; start = end + 1)
    result += c.name + " [" + check + "] " + problems.substr(start, end - start) + "\n";
  return result;
}

double now(Clock clock, int threads) {
  using namespace std::chrono;
  if (clock == Clock::wall) return duration<double>(steady_clock::now().time_since_epoch()).count();
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC / threads;
}

std::string check_form(const OpCase& c, const Setting& s, const Everything& reference) {
  std::string problem;
  compare_forms(c, s, reference, problem);
  check_forward_add(c, s, problem);
  const Forward plain = run_forward(c, s, none, problem);
  check_in_place(c, s, *c.op, plain, nullptr, problem);
  for (const BackwardStep& step : c.op->backward())
    if (step.op && reads_any_gradient(plain, step)) check_in_place(c, s, *step.op, plain, &step, problem);
  return problem;
}

namespace {

bool refuses(const Operator& op, const std::vector<Meta>& in) {
  try {
    op.infer(in);
    return false;
  } catch (const base::Error&) {
    return true;
  }
}

}  // namespace

std::string check_infer(const OpCase& c) {
  std::string problem;
  std::vector<Meta> in;
  for (const InputSpec& spec : c.inputs) in.push_back(spec.generator ? spec.meta : Meta{});
  if (c.op->infer(in).empty()) complain(problem, "infer gives no outputs");
  if (!refuses(*c.op, {})) complain(problem, "infer accepts an empty input list");
  for (std::size_t i = 0; i < in.size(); ++i) {
    auto wrong = in;
    wrong[i].dtype = DType::u8;
    if (c.inputs[i].generator && !refuses(*c.op, wrong))
      complain(problem, fmt::format("infer accepts input {} as u8", i));
  }
  for (std::size_t i = 0; i < c.rejects.size(); ++i)
    if (!refuses(*c.op, c.rejects[i])) complain(problem, fmt::format("infer accepts rejects[{}]", i));
  return prefixed(c, "infer", problem);
}

std::string check_gradient(const OpCase& c) {
  std::string problem;
  base::ThreadPool pool(1);
  const Setting s{true, base::best_isa(), &pool};
  const Forward f = run_forward(c, s, none, problem);
  if (c.op->backward().empty() || !has_gradient(f)) {
    for (std::size_t i = 0; i < c.inputs.size(); ++i)
      if (c.inputs[i].differentiable)
        complain(problem, fmt::format("input {} should have a gradient, backward() is empty", i));
    return prefixed(c, "gradient", problem);
  }
  const int outputs = static_cast<int>(f.out.size());
  for (int missing = none; missing < outputs; ++missing) {
    if (missing != none && !f.grads[static_cast<std::size_t>(missing)].view()) continue;
    const Forward g = run_forward(c, s, missing, problem);
    if (!has_gradient(g)) continue;
    const std::string what =
        missing == none ? "all gradients" : fmt::format("without the gradient of output {}", missing);
    auto gradients = input_gradients(c, s, g, problem);
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      if (!c.inputs[i].differentiable) continue;
      if (gradients[i].empty())
        gradients[i].assign(static_cast<std::size_t>(c.inputs[i].meta.shape.elements()), 0.0);
      if (c.finite_differences) differentiate(c, s, g, i, gradients[i], what, problem);
    }
    for (const BackwardStep& step : c.op->backward()) check_step_outputs(c, s, g, step, 1e-12, problem);
  }
  return prefixed(c, "gradient", problem);
}

std::string check_precision(const OpCase& c) {
  std::string problem;
  base::ThreadPool pool(2);
  const Everything reference = run_everything(c, {true, base::best_isa(), &pool}, problem);
  for (base::Isa isa : distinct_isas(*c.op)) problem += check_form(c, {false, isa, &pool}, reference);
  return prefixed(c, "precision", problem) + check_cuda(c);
}

std::string check_threads(const OpCase& c) {
  std::string problem;
  Blocks first;
  for (int threads = 1; threads <= 3; ++threads) {
    base::ThreadPool pool(threads);
    const Setting s{false, base::best_isa(), &pool};
    Forward f = run_forward(c, s, none, problem);
    Blocks now;
    for (const BackwardStep& step : c.op->backward())
      if (step.op && reads_any_gradient(f, step))
        for (Block& b : execute(c, s, {*step.op, gather_reads(f, step), {}, {}, {}}, problem))
          now.push_back(std::move(b));
    for (Block& b : f.out) now.push_back(std::move(b));
    for (Block& b : f.in) now.push_back(std::move(b));
    if (threads == 1) first = std::move(now);
    for (std::size_t k = 0; threads > 1 && k < first.size(); ++k)
      if (!now[k].same_bytes(first[k]))
        complain(problem, fmt::format("array {} differs with {} threads", k, threads));
  }
  return prefixed(c, "threads", problem);
}

std::string run_all_checks(const OpCase& c) {
  std::string all;
  for (auto check : {check_infer, check_gradient, check_precision, check_threads}) {
    try {
      all += check(c);
    } catch (const std::exception& e) {
      all += c.name + ": threw: " + e.what() + "\n";
    }
  }
  return all;
}

std::vector<Timing> measure(const OpCase& c, int threads, base::Isa isa, double budget, Clock clock) {
  base::ThreadPool pool(threads);
  const Setting s{false, isa, &pool};
  std::string problem;
  const Forward f = run_forward(c, s, none, problem);
  Context context{&pool, c.products};
  std::vector<Timing> timings;
  auto time = [&](const Operator& op, const std::vector<View>& in) {
    const std::vector<Meta> in_metas = metas(in), out_metas = op.infer(in_metas);
    Blocks out;
    for (const Meta& m : out_metas) out.emplace_back(m);
    const std::vector<View> out_views = views(out);
    const std::vector<Write> writes(out.size(), Write::set);
    Block workspace(
        Meta{DType::u8, Shape{static_cast<std::int64_t>(op.workspace_bytes(in_metas, out_metas))}});
    const Kernel kernel = find_kernel(op.name(), {}, isa);
    const base::Stopwatch total;
    double best = 1e30;
    for (int i = 0; i < 3 || total.seconds() < budget; ++i) {
      const double start = now(clock, threads);
      kernel({op, in, out_views, writes, workspace.view(), context});
      best = std::min(best, now(clock, threads) - start);
    }
    const Cost cost = op.cost(in_metas, out_metas);
    timings.push_back({std::string(op.name()), best, cost.flops / best / 1e9, cost.bytes / best / 1e9});
  };
  time(*c.op, views(f.in));
  for (const BackwardStep& step : c.op->backward())
    if (step.op && reads_any_gradient(f, step)) time(*step.op, gather_reads(f, step));
  return timings;
}

}  // namespace fairway::ops::harness
