#pragma once
// From an operator's arguments to pointers: the host side of every kernel.

#include <initializer_list>

#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace fairway::ops::cuda {

Target target(const KernelArgs& a);
/// Activations are bf16, or f32; other dtypes are refused.
bool is_bf16(const KernelArgs& a, const View& v);
/// For kernels that write their outputs in full: throws where one is to be added to.
void check_writes_set(const KernelArgs& a);
/// Throws where one of `pointers` is no multiple of 16.
void check_aligned(const KernelArgs& a, std::initializer_list<const void*> pointers);

inline const View& view(const KernelArgs& a, std::size_t i) {
  static const View absent;
  return i < a.in.size() ? a.in[i] : absent;
}
inline const void* data(const KernelArgs& a, std::size_t i) { return view(a, i).data; }
inline const float* floats(const KernelArgs& a, std::size_t i) { return view(a, i).as<const float>(); }
inline const std::int32_t* integers(const KernelArgs& a, std::size_t i) {
  return view(a, i).as<const std::int32_t>();
}
inline Output output(const KernelArgs& a, std::size_t i) {
  if (i >= a.out.size()) return {};
  return {a.out[i].data, a.write[i] == Write::add};
}
inline float* partials(const KernelArgs& a) { return static_cast<float*>(a.workspace.data); }

}  // namespace fairway::ops::cuda
