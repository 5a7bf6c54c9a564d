// The harness on a GPU: parity with the CPU, and times.
#include <algorithm>

#include "fairway/base/clock.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/embedding.h"
#include "fairway/ops/registry.h"
#include "fairway/tensor/cuda.h"
#include "ops/harness_run.h"

namespace fairway::ops::harness {
namespace {

/// Two runs under one setting: the same bytes in everything.
void check_repeats(const OpCase& c, const Setting& s, std::string& problem) {
  Blocks first;
  for (int run = 0; run < 2; ++run) {
    Forward f = run_forward(c, s, none, problem);
    Blocks now;
    for (const BackwardStep& step : c.op->backward())
      if (step.op && reads_any_gradient(f, step))
        for (Block& b : execute(c, s, {*step.op, gather_reads(f, step), {}, {}, {}}, problem))
          now.push_back(std::move(b));
    for (Block& b : f.out) now.push_back(std::move(b));
    if (run == 0) first = std::move(now);
    for (std::size_t k = 0; run > 0 && k < first.size(); ++k)
      if (!now[k].same_bytes(first[k])) complain(problem, fmt::format("array {} differs in a second run", k));
  }
}

std::string check_on_gpu(const OpCase& c, const Setting& s, base::ThreadPool& pool) {
  std::string problem;
  const Everything reference = run_everything(c, {true, base::best_isa(), &pool}, problem);
  problem += check_form(c, s, reference);
  check_repeats(c, s, problem);
  return problem;
}

}  // namespace

std::string gpu_missing() { return tensor::cuda_unavailable_reason(); }

std::optional<OpCase> bf16_form(const OpCase& c) {
  OpCase narrow = c;
  bool any = false;
  for (const int input : activation_inputs(c.op->name())) {
    const auto i = static_cast<std::size_t>(input);
    if (i >= c.inputs.size() || !c.inputs[i].generator || c.inputs[i].meta.dtype != DType::f32) continue;
    narrow.inputs[i].meta.dtype = DType::bf16;
    any = true;
  }
  if (!any) return std::nullopt;
  if (const auto* attention = dynamic_cast<const Attention*>(c.op.get()))
    if (attention->shape.head_dim != 64) return std::nullopt;  // the bf16 kernels take no other heads
  if (c.op->name() == "gather") narrow.op = std::make_shared<Gather>(DType::bf16);
  narrow.tolerance = 1e-1;
  narrow.norm_tolerance = std::max(c.norm_tolerance, 1e-2);
  narrow.narrow = true;
  return narrow;
}

std::string check_cuda(const OpCase& c) {
  if (!gpu_missing().empty()) return "";
  base::ThreadPool pool(base::available_cores());
  cuda::State gpu({tensor::DeviceKind::cuda, 0});
  const Setting there{false, {}, nullptr, &gpu};
  OpCase plain = c;
  plain.tolerance = std::max(c.tolerance, 1e-4);
  std::string all = prefixed(c, "cuda f32", check_on_gpu(plain, there, pool));
  if (const auto narrow = bf16_form(c)) all += prefixed(c, "cuda bf16", check_on_gpu(*narrow, there, pool));
  return all;
}

std::vector<Timing> measure_cuda(const OpCase& c, double budget) {
  cuda::State gpu({tensor::DeviceKind::cuda, 0});
  const Context context{nullptr, c.products, gpu.stream(), &gpu};
  std::vector<Timing> timings;
  // Values come from the inputs alone: the forward runs on the GPU, gradients are copies of the outputs.
  const Blocks in = make_inputs(c, false);
  const auto metas_in = metas(views(in));
  const auto metas_out = c.op->infer(metas_in);
  std::vector<tensor::Buffer> memory;
  auto there = [&](const Meta& m) -> View {
    memory.emplace_back(gpu.device(), std::max<std::size_t>(m.bytes(), 256));
    return {memory.back().data(), m};
  };
  std::vector<View> inputs, outputs, grads, temporaries;
  for (const Block& b : in) {
    inputs.push_back(b.view() ? there(b.meta()) : View{});
    if (b.view()) tensor::copy_bytes(gpu.device(), inputs.back().data, {}, b.view().data, b.meta().bytes());
  }
  for (const Meta& m : metas_out) outputs.push_back(there(m));
  auto time = [&](const Operator& op, const std::vector<View>& reads, const std::vector<View>& to) {
    const std::vector<Meta> in_metas = metas(reads), out_metas = op.infer(in_metas);
    const std::vector<Write> writes(to.size(), Write::set);
    const auto bytes = std::max<std::size_t>(op.workspace_bytes(in_metas, out_metas), 256);
    const tensor::Buffer workspace(gpu.device(), bytes);
    const KernelArgs args{
        op, reads, to, writes, {workspace.data(), {DType::u8, {static_cast<std::int64_t>(bytes)}}}, context};
    const Kernel kernel = find_kernel(op.name(), gpu.device(), {});
    for (int i = 0; i < 3; ++i) kernel(args);
    gpu.synchronize();
    double best = 1e30;
    constexpr int together = 10;
    const base::Stopwatch total;
    for (int i = 0; i < 3 || total.seconds() < budget; ++i) {
      const double start = now(Clock::wall, 1);
      for (int k = 0; k < together; ++k) kernel(args);
      gpu.synchronize();
      best = std::min(best, (now(Clock::wall, 1) - start) / together);
    }
    const Cost cost = op.cost(in_metas, out_metas);
    timings.push_back({std::string(op.name()), best, cost.flops / best / 1e9, cost.bytes / best / 1e9});
  };
  time(*c.op, inputs, outputs);
  for (std::size_t k = 0; k < metas_out.size(); ++k) {
    const bool saved = std::find(c.saved_outputs.begin(), c.saved_outputs.end(), static_cast<int>(k)) !=
                       c.saved_outputs.end();
    grads.push_back(saved || !is_floating(metas_out[k].dtype) ? View{} : there(metas_out[k]));
    if (grads.back())
      tensor::copy_bytes(gpu.device(), grads.back().data, gpu.device(), outputs[k].data,
                         metas_out[k].bytes());
  }
  for (const BackwardStep& step : c.op->backward()) {
    if (!step.op) continue;
    std::vector<View> reads, to;
    for (const Ref& r : step.reads) {
      const auto index = static_cast<std::size_t>(r.index);
      const auto& from = r.from == Ref::From::input         ? inputs
                         : r.from == Ref::From::output      ? outputs
                         : r.from == Ref::From::grad_output ? grads
                                                            : temporaries;
      reads.push_back(index < from.size() ? from[index] : View{});
    }
    for (const Meta& m : step.op->infer(metas(reads))) to.push_back(there(m));
    time(*step.op, reads, to);
    for (std::size_t k = 0; k < to.size(); ++k) {
      if (step.grads[k] >= 0) continue;
      temporaries.resize(
          std::max(temporaries.size(), static_cast<std::size_t>(to_temporary(step.grads[k])) + 1));
      temporaries[static_cast<std::size_t>(to_temporary(step.grads[k]))] = to[k];
    }
  }
  return timings;
}

}  // namespace fairway::ops::harness
