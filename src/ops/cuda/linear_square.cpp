#include "fairway/ops/linear_square.h"

#include "cuda/args.h"
#include "cuda/linear_square.h"
#include "square_parts.h"

namespace fairway::ops::cuda {
namespace {

constexpr SquareParts parts_here{matmul, linear_add, leaky_square, leaky_square_backward, scale_rows};

bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) return false;
  return true;
}

SquareShape shape_of(const View& left, const View& result, float slope) {
  return {.m = static_cast<int>(result.shape().rows()),
          .n = static_cast<int>(result.shape().columns()),
          .k = static_cast<int>(left.shape().columns()),
          .slope = slope};
}

bool fits(const View& left, const View& result) {
  return left.dtype() == DType::bf16 && result.shape().rows() <= INT32_MAX / 2 &&
         square_product_fits(result.shape().columns(), left.shape().columns());
}

}  // namespace

void linear_square(const KernelArgs& a) {
  const auto& op = static_cast<const LinearSquare&>(a.op);
  void *act = a.out[0].data, *h = a.out[1].data;
  if (!act && !h) return;
  const View &left = a.in[op.row_scale ? 2 : 0], &result = act ? a.out[0] : a.out[1];
  if (!fits(left, result)) return linear_square_by_parts(a, parts_here);
  base::check(aligned({left.data, data(a, 1), act, h}), "{}: operands not aligned to 16 bytes", op.name());
  for (const Write w : a.write) base::check(w == Write::set, "{}: its results are not added to", op.name());
  auto shape = shape_of(left, result, op.slope);
  if (op.row_scale) shape.r = floats(a, 3), shape.row_scale = *op.row_scale;
  check_cuda(linear_square_forward(shape, left.data, data(a, 1), h, act, target(a).stream), op.name());
}

void square_linear_add(const KernelArgs& a) { square_linear_add_by_parts(a, parts_here); }

void square_linear_backward(const KernelArgs& a) {
  const auto& op = static_cast<const SquareLinearBackward&>(a.op);
  void* dh = a.out[0].data;
  if (!dh) return;
  if (!fits(a.in[0], a.in[2])) return square_linear_backward_by_parts(a, parts_here);
  base::check(aligned({data(a, 0), data(a, 1), data(a, 2), dh}), "{}: operands not aligned to 16 bytes",
              op.name());
  auto shape = shape_of(a.in[0], a.in[2], op.slope);
  shape.r = floats(a, 3), shape.row_scale = op.row_scale, shape.from_act = op.from_act;
  check_cuda(linear_square_backward(shape, data(a, 0), data(a, 1), data(a, 2), dh, a.write[0] == Write::add,
                                    target(a).stream),
             op.name());
}

}  // namespace fairway::ops::cuda
