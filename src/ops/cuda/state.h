#pragma once
#include <memory>

#include "cuda/gemm_runner.h"
#include "cuda/launch.h"
#include "fairway/ops/cuda.h"

namespace fairway::ops::cuda {

struct State::Impl {
  tensor::Device device;
  cudaStream_t stream = nullptr;
  Fault* fault = nullptr;
  std::unique_ptr<GemmRunner> gemms;  ///< made by the first product
  bool deterministic = true;

  ~Impl();
  GemmRunner& gemm_runner();
};

}  // namespace fairway::ops::cuda
