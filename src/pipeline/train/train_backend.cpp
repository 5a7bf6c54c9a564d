#include "fairway/pipeline/train/train_backend.h"

#include "fairway/base/error.h"
#include "fairway/tensor/cuda.h"
#include "train/train_cpu.h"
#include "train/train_cuda.h"

#include <cmath>

namespace fairway::pipeline {

bool StepOutcome::finite() const { return std::isfinite(loss) && gradient.finite; }

std::unique_ptr<TrainBackend> make_train_backend(const Recipe& recipe, Engine& engine) {
  if (engine.device().kind == tensor::DeviceKind::cpu)
    return std::make_unique<CpuTrainBackend>(recipe, engine);
  return std::make_unique<CudaTrainBackend>(recipe, engine);
}

std::vector<float> read_weights(const graph::ParameterStore& store) {
  std::vector<float> flat(static_cast<std::size_t>(store.layout().padded_elements()));
  const auto view = store.flat_values();
  tensor::copy_bytes({}, flat.data(), store.device(), view.data, view.bytes());
  return flat;
}

void write_weights(graph::ParameterStore& store, std::span<const float> flat) {
  const auto view = store.flat_values();
  base::check(flat.size_bytes() == view.bytes(), "{} bytes for {} of weights", flat.size_bytes(),
              view.bytes());
  tensor::copy_bytes(store.device(), view.data, {}, flat.data(), view.bytes());
}

}  // namespace fairway::pipeline
