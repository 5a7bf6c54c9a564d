#include "cuda/args.h"

namespace fairway::ops::cuda {

State::Parts& parts(const KernelArgs& a) {
  base::check(a.context.cuda != nullptr, "{} on a GPU without a CUDA state in its context", a.op.name());
  return a.context.cuda->parts();
}

Target target(const KernelArgs& a) { return {static_cast<cudaStream_t>(a.context.stream), parts(a).fault}; }

Storage storage(const KernelArgs& a, const View& v) {
  if (v.dtype() == DType::bf16) return Storage::bf16;
  base::check(v.dtype() == DType::f32, "{}: a GPU computes in f32 or bf16, not {}", a.op.name(),
              tensor::dtype_name(v.dtype()));
  return Storage::f32;
}

void launched(const KernelArgs& a) { check_cuda(cudaGetLastError(), a.op.name()); }

}  // namespace fairway::ops::cuda
