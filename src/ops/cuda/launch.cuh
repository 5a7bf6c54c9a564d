#pragma once
// From an operator's arguments to launches: the host side of .cu files.

#include <type_traits>

#include "cuda/args.h"
#include "cuda/device.cuh"

namespace fairway::ops::cuda {

/// Calls f(T{}) with the type of the activations `v`: float or __nv_bfloat16.
template <class F>
void dispatch(const KernelArgs& a, const View& v, const F& f) {
  if (is_bf16(a, v))
    f(__nv_bfloat16{});
  else
    f(float{});
}
/// Calls f(T{}, Constant<V>{}) with the widest V that rows of `columns` elements allow.
template <class F>
void with_width(const KernelArgs& a, const View& v, std::int64_t columns,
                std::initializer_list<const void*> pointers, const F& f) {
  dispatch(a, v,
           [&]<class T>(T zero) { with_width<T>(columns, pointers, [&](auto width) { f(zero, width); }); });
}

/// Input i as activations of type T, or null when it is absent.
template <class T>
const T* in(const KernelArgs& a, std::size_t i) {
  return static_cast<const T*>(data(a, i));
}
template <class T>
Out<T> out(const KernelArgs& a, std::size_t i) {
  return out<T>(output(a, i));
}

/// Queues `kernel` with a warp for each of `rows`; nothing where there are none.
template <class... P>
void launch_rows(const KernelArgs& a, std::int64_t rows, void (*kernel)(P...), std::type_identity_t<P>... p) {
  if (rows > 0) kernel<<<blocks_for(rows, block_warps), block_threads, 0, target(a).stream>>>(p...);
}
/// The same with a thread for each of n elements.
template <class... P>
void launch_elements(const KernelArgs& a, std::int64_t n, void (*kernel)(P...),
                     std::type_identity_t<P>... p) {
  if (n > 0) kernel<<<blocks_for(n, block_threads), block_threads, 0, target(a).stream>>>(p...);
}

}  // namespace fairway::ops::cuda
