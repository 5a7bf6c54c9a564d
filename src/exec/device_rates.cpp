#include "fairway/exec/device_rates.h"

#include "fairway/base/random.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/residual.h"
#include "fairway/tensor/cuda.h"

#include <algorithm>

namespace fairway::exec {

namespace {

/// Small numbers of either type in all of `view` (not zeros: those multiply faster on some processors). The
/// host makes few of them, copies do the rest.
void fill_with_numbers(const tensor::View& view, const tensor::Device& device) {
  const base::Random random(1, "bench");
  std::vector<std::uint32_t> values(std::min<std::size_t>(view.bytes() / 4, 1 << 16));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = 0x3c003c00u | (static_cast<std::uint32_t>(random.bits(i)) & 0x80ff80ffu);
  std::size_t done = values.size() * 4;
  tensor::copy_bytes(device, view.data, {}, values.data(), done);
  for (std::size_t more = 0; done < view.bytes(); done += more) {
    more = std::min(done, view.bytes() - done);
    tensor::copy_bytes(device, static_cast<std::byte*>(view.data) + done, device, view.data, more);
  }
}

/// Seconds of the one step of a graph over an input.
double seconds_of(graph::Graph graph, const Engine& engine) {
  graph::ParameterLayout layout;
  layout.finish();
  graph::ParameterStore none(layout, engine.device(), false);
  graph::Plan plan(none, engine.runtime());
  auto& program = plan.add(std::move(graph));
  plan.allocate();
  fill_with_numbers(program.view("x"), engine.device());
  program.run_measured(3);
  program.run_measured(9);
  return program.steps().front().seconds;
}

graph::Graph square(std::int64_t n, tensor::DType dtype) {
  graph::ParameterLayout layout;
  layout.finish();
  graph::Builder b("product", layout, dtype);
  const auto x = b.state("x", {dtype, {n, n}});
  b.output(b.op1<ops::Matmul>({x, x}, false, true), "y");
  return b.finish();
}

graph::Graph copy(std::int64_t n) {
  graph::ParameterLayout layout;
  layout.finish();
  graph::Builder b("copy", layout, tensor::DType::f32);
  const auto x = b.state("x", {tensor::DType::f32, {n}});
  b.output(b.op1<ops::Copy>({x}), "y");
  return b.finish();
}

}  // namespace

double DeviceRates::roofline_seconds(const ops::Cost& cost) const {
  return std::max(cost.flops / flops_per_second, cost.bytes / bytes_per_second);
}

double DeviceRates::roofline_seconds(const graph::Graph& graph) const {
  double seconds = 0;
  for (const auto& step : graph.steps) seconds += roofline_seconds(graph.cost(step));
  return seconds;
}

DeviceRates measure_rates(tensor::DType products, const Engine& engine) {
  const bool gpu = engine.device().is_cuda();
  const std::int64_t n = !gpu                              ? 1536
                         : products == tensor::DType::bf16 ? 8192
                                                           : 4096,
                     elements = gpu ? 1 << 27 : 1 << 25;
  DeviceRates rates;
  rates.flops_per_second = 2.0 * static_cast<double>(n * n * n) / seconds_of(square(n, products), engine);
  rates.bytes_per_second = 8.0 * static_cast<double>(elements) / seconds_of(copy(elements), engine);
  return rates;
}

}  // namespace fairway::exec
