#include "fairway/pipeline/engine.h"

#include "fairway/base/error.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/registry.h"

namespace fairway::pipeline {

Engine::Engine(const ExecutionOptions& options)
    : isa_(options.isa.value_or(base::best_isa())),
      device_(options.device),
      progress_(options.progress ? options.progress : &silent_),
      stop_(options.stop) {
  if (isa_ > base::best_isa())
    base::fail_input("--isa {}: this processor has {} at most", base::isa_name(isa_),
                     base::isa_name(base::best_isa()));
  if (options.threads < 0) base::fail_input("--threads {}: must be positive", options.threads);
  pool_ = std::make_unique<base::ThreadPool>(options.threads);
  ops::pin_isa(isa_);
  if (!device_.is_cuda()) return;
  if (const auto reason = ops::cuda::products_unavailable_reason(); !reason.empty())
    base::fail_input("--device {}: {}", device_.str(), reason);
  cuda_ = std::make_unique<ops::cuda::State>(device_);
}

void Engine::throw_if_stopped() const {
  if (stop_.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
}

graph::Runtime Engine::runtime(ops::Products products) const {
  return {device_, isa_, products, pool_.get(), cuda_.get()};
}

tensor::DType Engine::activations(const model::ModelConfig& config) const {
  return device_.is_cuda() && config.head_dim() == ops::bf16_head_dim ? tensor::DType::bf16
                                                                      : tensor::DType::f32;
}

model::BuildOptions Engine::build_options(const model::ModelConfig& config) const {
  model::BuildOptions options;
  options.dtype = activations(config);
  options.passes = device_.is_cuda() ? graph::all_passes() : graph::cpu_passes();
  return options;
}

}  // namespace fairway::pipeline
