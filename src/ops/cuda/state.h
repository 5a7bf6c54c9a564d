#pragma once
#include <memory>

#include "cuda/launch.h"
#include "cuda/product_maker.h"
#include "fairway/ops/cuda.h"

namespace fairway::ops::cuda {

struct State::Parts {
  tensor::Device device;
  cudaStream_t stream = nullptr;
  Fault* fault = nullptr;
  std::unique_ptr<ProductMaker> products;  ///< made by the first product
  bool deterministic = true;

  ~Parts();
  ProductMaker& product_maker();
};

}  // namespace fairway::ops::cuda
