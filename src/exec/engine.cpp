#include "fairway/exec/engine.h"

#include "fairway/base/error.h"
#include "fairway/ops/registry.h"
#include "fairway/tensor/cuda.h"

namespace fairway::exec {

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
  if (const auto reason = ops::cuda::gemm_unavailable_reason(); !reason.empty())
    base::fail_input("--device {}: {}", device_.str(), reason);
  cuda_ = std::make_unique<ops::cuda::State>(device_);
}

void Engine::throw_if_stopped() const {
  if (stop_.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
}

graph::Runtime Engine::runtime(tensor::DType products) const {
  return {device_, isa_, products, pool_.get(), cuda_.get()};
}

void Engine::synchronize() const {
  if (cuda_) cuda_->synchronize();
}

void Recorded::run() {
  base::check(static_cast<bool>(queue_), "work that was not planned");
  if (!state_ || !warm_) {
    queue_();
    warm_ = true;
    return;
  }
  if (!recording_) recording_ = std::make_unique<ops::cuda::Recording>(*state_, queue_);
  recording_->replay();
}

}  // namespace fairway::exec
