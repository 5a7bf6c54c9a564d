#include "fairway/pipeline/engine.h"

#include "fairway/base/error.h"
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
  if (device_.is_cuda())
    base::fail_input("--device {}: this build runs models on the CPU only; use --device cpu", device_.str());
  if (options.threads < 0) base::fail_input("--threads {}: must be positive", options.threads);
  pool_ = std::make_unique<base::ThreadPool>(options.threads);
  ops::pin_isa(isa_);
}

void Engine::throw_if_stopped() const {
  if (stop_.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
}

graph::Runtime Engine::runtime(ops::Products products) const {
  return {device_, isa_, products, pool_.get()};
}

}  // namespace fairway::pipeline
