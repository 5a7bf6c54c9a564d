#include "fairway/ops/matmul.h"

#include <algorithm>

#include "cuda/args.h"
#include "product_cut.h"

namespace fairway::ops::cuda {
namespace {

/// Largest power of two, up to 256, that divides all addresses.
std::uint32_t common_alignment(std::initializer_list<const void*> pointers) {
  std::uintptr_t bits = 256;
  for (const void* p : pointers) bits |= reinterpret_cast<std::uintptr_t>(p);
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

}  // namespace

void matmul(const KernelArgs& args) {
  const auto& op = static_cast<const Matmul&>(args.op);
  if (!args.out[0]) return;
  const Shape &a = args.in[0].shape(), &c = args.out[0].shape();
  Product p;
  p.m = c.rows(), p.n = c.columns(), p.k = op.transpose_a ? a.rows() : a.columns();
  p.transpose_a = op.transpose_a, p.transpose_b = op.transpose_b;
  p.add = args.write[0] == Write::add;
  p.operands = storage(args, args.in[0]);
  p.result = storage(args, args.out[0]);
  const void *first = data(args, 0), *second = data(args, 1);
  if (p.operands == Storage::f32 &&
      args.context.products == Products::bf16) {  // as on the CPU: rounded, fp32 sums
    auto* rounded = static_cast<std::byte*>(args.workspace.data);
    std::byte* rounded_b = rounded + rounded_operand_bytes(args.in[0].meta);
    round_to_bf16(target(args), args.in[0].elements(), floats(args, 0), rounded);
    round_to_bf16(target(args), args.in[1].elements(), floats(args, 1), rounded_b);
    launched(args);
    first = rounded, second = rounded_b;
    p.operands = Storage::bf16;
  }
  if (p.m == 0 || p.n == 0) return;
  p.alignment = common_alignment({first, second, args.out[0].data});
  parts(args).product_maker().multiply(target(args).stream, p, first, second, args.out[0].data);
}

}  // namespace fairway::ops::cuda
