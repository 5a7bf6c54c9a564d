#include "cuda/args.h"

#include "cuda/state.h"

namespace fairway::ops::cuda {

Target target(const KernelArgs& a) {
  base::check(a.context.cuda != nullptr, "{} on a GPU without a CUDA state in its context", a.op.name());
  return {static_cast<cudaStream_t>(a.context.stream), a.context.cuda->impl().fault};
}

bool is_bf16(const KernelArgs& a, const View& v) {
  base::check(v.dtype() == DType::bf16 || v.dtype() == DType::f32,
              "{}: a GPU computes in f32 or bf16, not {}", a.op.name(), tensor::dtype_name(v.dtype()));
  return v.dtype() == DType::bf16;
}

void check_writes_set(const KernelArgs& a) {
  for (const Write w : a.write) base::check(w == Write::set, "{}: its results are not added to", a.op.name());
}

void check_aligned(const KernelArgs& a, std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    base::check(reinterpret_cast<std::uintptr_t>(p) % 16 == 0, "{}: operands not aligned to 16 bytes",
                a.op.name());
}

}  // namespace fairway::ops::cuda
