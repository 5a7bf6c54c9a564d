#include "fairway/ops/matmul.h"

#include "cuda/args.h"
#include "cuda/linear_add.h"
#include "fairway/ops/cuda_products.h"
#include "product_cut.h"

namespace fairway::ops::cuda {
void matmul(const KernelArgs& args) {
  const auto& op = static_cast<const Matmul&>(args.op);
  if (!args.out[0]) return;
  const Shape &a = args.in[0].shape(), &c = args.out[0].shape();
  Product p;
  p.m = c.rows(), p.n = c.columns(), p.k = op.transpose_a ? a.rows() : a.columns();
  p.transpose_a = op.transpose_a, p.transpose_b = op.transpose_b;
  p.operands = storage(args, args.in[0]);
  p.result = storage(args, args.out[0]);
  const void *first = data(args, 0), *second = data(args, 1);
  if (p.operands == Storage::f32 &&
      args.context.products == MatmulPrecision::bf16) {  // as on the CPU: rounded, fp32 sums
    auto* rounded = static_cast<std::byte*>(args.workspace.data);
    std::byte* rounded_b = rounded + rounded_operand_bytes(args.in[0].meta);
    round_to_bf16(target(args), args.in[0].elements(), floats(args, 0), rounded);
    round_to_bf16(target(args), args.in[1].elements(), floats(args, 1), rounded_b);
    launched(args);
    first = rounded, second = rounded_b;
    p.operands = Storage::bf16;
  }
  if (p.m == 0 || p.n == 0) return;
  void* result = args.out[0].data;
  p.alignment = common_alignment({address(first), address(second), address(result)});
  const float beta = args.write[0] == Write::add ? 1.0f : 0.0f;
  parts(args).product_maker().multiply(target(args).stream, p, 1.0f, first, second, beta, result, result);
}

namespace {

/// The fused kernel takes this product: a short sum, whole slices.
bool is_fused(const KernelArgs& args) {
  return fused_linear_fits(args.in[0].meta, args.out[0].meta) &&
         common_alignment({address(data(args, 0)), address(data(args, 1)), address(data(args, 2)),
                           address(args.out[0].data)}) >= 16;
}

void add_by_library(const KernelArgs& args) {
  const Shape &x = args.in[0].shape(), &y = args.out[0].shape();
  BatchedProduct p;
  p.m = y.rows(), p.n = y.columns(), p.k = x.columns();
  p.transpose_b = true;
  p.operands = args.in[0].dtype(), p.result = args.out[0].dtype();
  p.beta = 1;
  multiply(*args.context.cuda, p, data(args, 0), data(args, 1), data(args, 2), args.out[0].data);
}

}  // namespace

void linear_add(const KernelArgs& args) {
  if (!args.out[0]) return;
  base::check(args.write[0] == Write::set, "linear_add: its result is not added to");
  if (args.out[0].elements() == 0) return;
  const bool squares = args.out.size() > 1 && args.out[1].data;
  if (!is_fused(args)) {
    base::check(!squares, "linear_add: no kernel sums squares of rows of {}", args.out[0].shape().str());
    return add_by_library(args);
  }
  const Shape &x = args.in[0].shape(), &y = args.out[0].shape();
  const LinearAddShape shape{static_cast<int>(y.rows()), static_cast<int>(y.columns()),
                             static_cast<int>(x.columns())};
  check_cuda(linear_add_fused(shape, data(args, 0), data(args, 1), data(args, 2), args.out[0].data,
                              squares ? args.out[1].as<float>() : nullptr, target(args).stream),
             "linear_add");
}

}  // namespace fairway::ops::cuda
