#pragma once
#include "fairway/exec/engine.h"
#include "fairway/ops/cuda.h"
#include "fairway/tensor/cuda.h"

#include <gtest/gtest.h>

namespace fairway::testing {

inline constexpr tensor::Device first_gpu{tensor::DeviceKind::cuda, 0};

/// Skips where there is no GPU, and says why.
class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    auto reason = tensor::cuda_unavailable_reason();
    if (reason.empty()) reason = ops::cuda::gemm_unavailable_reason();
    if (!reason.empty()) GTEST_SKIP() << "needs a GPU: " << reason;
  }
  static exec::ExecutionOptions on(tensor::Device device) {
    exec::ExecutionOptions options;
    options.device = device;
    return options;
  }
};

}  // namespace fairway::testing
