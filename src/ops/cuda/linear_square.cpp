#include "fairway/ops/linear_square.h"

#include "cuda/args.h"
#include "cuda/linear_square.h"
#include "square_parts.h"

namespace fairway::ops::cuda {
namespace {

constexpr SquareParts parts_here{matmul, linear_add, leaky_square, leaky_square_backward};

bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) return false;
  return true;
}

SquareShape shape_of(const KernelArgs& a, const View& result, float slope) {
  return {static_cast<int>(result.shape().rows()), static_cast<int>(result.shape().columns()),
          static_cast<int>(a.in[0].shape().columns()), slope};
}

bool fits(const KernelArgs& a, const View& result) {
  return a.in[0].dtype() == DType::bf16 && result.shape().rows() <= INT32_MAX / 2 &&
         square_product_fits(result.shape().columns(), a.in[0].shape().columns());
}

}  // namespace

void linear_square(const KernelArgs& a) {
  const auto& op = static_cast<const LinearSquare&>(a.op);
  void *act = a.out[0].data, *h = a.out[1].data;
  if (!act && !h) return;
  if (!fits(a, act ? a.out[0] : a.out[1]) || !aligned({data(a, 0), data(a, 1), act, h}))
    return linear_square_by_parts(a, parts_here);
  for (const Write w : a.write) base::check(w == Write::set, "{}: its results are not added to", op.name());
  check_cuda(linear_square_forward(shape_of(a, act ? a.out[0] : a.out[1], op.slope), data(a, 0), data(a, 1),
                                   h, act, target(a).stream),
             op.name());
}

void square_linear_add(const KernelArgs& a) { square_linear_add_by_parts(a, parts_here); }

void square_linear_backward(const KernelArgs& a) {
  const auto& op = static_cast<const SquareLinearBackward&>(a.op);
  void* dh = a.out[0].data;
  if (!dh) return;
  if (!fits(a, a.in[2])) return square_linear_backward_by_parts(a, parts_here);
  base::check(aligned({data(a, 0), data(a, 1), data(a, 2), dh}), "{}: operands not aligned to 16 bytes",
              op.name());
  check_cuda(linear_square_backward(shape_of(a, a.in[2], op.slope), data(a, 0), data(a, 1), data(a, 2), dh,
                                    a.write[0] == Write::add, target(a).stream),
             op.name());
}

}  // namespace fairway::ops::cuda
