#include "fairway/ops/matmul.h"

#include "cuda/args.h"
#include "fairway/ops/cuda_gemm.h"
#include "matmul_tiling.h"

namespace fairway::ops::cuda {

void matmul(const KernelArgs& args) {
  if (!args.out[0]) return;
  const auto& op = static_cast<const Matmul&>(args.op);
  const Shape &a = args.in[0].shape(), &c = args.out[0].shape();
  BatchedGemm p;
  p.m = c.rows(), p.n = c.columns(), p.k = op.transpose_a ? a.rows() : a.columns();
  p.transpose_a = op.transpose_a, p.transpose_b = op.transpose_b;
  p.operands = args.in[0].dtype(), p.result = args.out[0].dtype();
  p.beta = args.write[0] == Write::add ? 1.0f : 0.0f;
  const void *first = data(args, 0), *second = data(args, 1);
  if (p.operands == DType::f32 &&
      args.context.products == DType::bf16) {  // as on the CPU: rounded, fp32 sums
    auto* rounded = static_cast<std::byte*>(args.workspace.data);
    std::byte* rounded_b = rounded + rounded_operand_bytes(args.in[0].meta);
    round_to_bf16(target(args), args.in[0].elements(), floats(args, 0), rounded);
    round_to_bf16(target(args), args.in[1].elements(), floats(args, 1), rounded_b);
    check_cuda(cudaGetLastError(), op.name());
    first = rounded, second = rounded_b;
    p.operands = DType::bf16;
  }
  void* result = args.out[0].data;
  multiply(*args.context.cuda, p, first, second, result, result);
}

}  // namespace fairway::ops::cuda
