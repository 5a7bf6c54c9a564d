#include "cuda/args.h"
#include "cuda/kernels.h"
#include "cuda/linear_relu_squared.cuh"
#include "fairway/ops/linear_relu_squared.h"
#include "fairway/ops/matmul.h"

namespace fairway::ops::cuda {
namespace {

constexpr int groups = 2,
              stages = 8;  // the fastest of those that bench/cuda/linear_relu_squared_main.cu times

square::SquareShape shape_of(const KernelArgs& a, const View& left, const View& result, float slope) {
  base::check(fused_linear_fits(left.meta, result.meta), "{} of {} from {}: no kernel fits", a.op.name(),
              result.shape().str(), left.shape().str());
  return {.m = static_cast<int>(result.shape().rows()),
          .n = static_cast<int>(result.shape().columns()),
          .k = static_cast<int>(left.shape().columns()),
          .slope = slope};
}

}  // namespace

void linear_relu_squared(const KernelArgs& a) {
  const auto& op = static_cast<const LinearReluSquared&>(a.op);
  void *act = a.out[0].data, *h = a.out[1].data;
  if (!act && !h) return;
  const View &left = a.in[op.row_scale ? 2 : 0], &result = act ? a.out[0] : a.out[1];
  check_aligned(a, {left.data, data(a, 1), act, h});
  check_writes_set(a);
  auto shape = shape_of(a, left, result, op.slope);
  if (op.row_scale) shape.r = floats(a, 3), shape.row_scale = *op.row_scale;
  check_cuda(square::forward<groups, stages>(shape, left.data, data(a, 1), h, act, target(a).stream),
             op.name());
}

void relu_squared_linear_add(const KernelArgs& a) {
  if (a.in[3].data)
    linear_add({LinearAdd(), a.in.subspan(1, 3), a.out, a.write, {}, a.context});
  else
    matmul({Matmul(false, true), a.in.subspan(1, 2), a.out, a.write, {}, a.context});
}

void relu_squared_linear_backward(const KernelArgs& a) {
  const auto& op = static_cast<const ReluSquaredLinearBackward&>(a.op);
  void* dh = a.out[0].data;
  if (!dh) return;
  check_aligned(a, {data(a, 0), data(a, 1), data(a, 2), dh});
  auto shape = shape_of(a, a.in[0], a.in[2], op.slope);
  shape.r = floats(a, 3), shape.row_scale = op.row_scale, shape.from_act = op.from_act;
  check_cuda(square::backward<groups, stages>(shape, data(a, 0), data(a, 1), data(a, 2), dh,
                                              a.write[0] == Write::add, target(a).stream),
             op.name());
}

}  // namespace fairway::ops::cuda
