#pragma once
// From an operator's arguments to pointers: the host side of every kernel.

#include "chunks.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/state.h"

namespace fairway::ops::cuda {

State::Parts& parts(const KernelArgs& a);
Target target(const KernelArgs& a);
/// f32 or bf16; other dtypes are refused.
Storage storage(const KernelArgs& a, const View& v);
/// Throws when a launch was refused.
void launched(const KernelArgs& a);

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
inline Pieces pieces(std::int64_t rows) {
  const Chunks c = device_chunks_of(rows);
  return {rows, c.rows, c.count};
}
inline float* partials(const KernelArgs& a) { return static_cast<float*>(a.workspace.data); }

}  // namespace fairway::ops::cuda
