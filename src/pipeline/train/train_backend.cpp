#include "fairway/pipeline/train/train_backend.h"

#include "fairway/base/error.h"
#include "train/train_cpu.h"
#include "train/train_cuda.h"

#include <cmath>

namespace fairway::pipeline {

bool StepOutcome::finite() const { return std::isfinite(loss) && gradient.finite; }

std::unique_ptr<TrainBackend> make_train_backend(const Recipe& recipe, exec::Engine& engine) {
  if (engine.device().kind == tensor::DeviceKind::cpu)
    return std::make_unique<CpuTrainBackend>(recipe, engine);
  return std::make_unique<CudaTrainBackend>(recipe, engine);
}

}  // namespace fairway::pipeline
