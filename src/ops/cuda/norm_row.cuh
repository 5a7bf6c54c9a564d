#pragma once
// How a warp holds a row: in registers where it fits, read twice (from the cache, the second time) where not.

#include "cuda/device.cuh"

namespace fairway::ops::cuda {

/// Calls f(T{}, Constant<V>{}, Constant<C>{}): rows of at most 32 V C columns stay in registers, C chunks of
/// V per lane; with C = 0 they are read again.
template <class F>
void with_row_shape(Storage storage, std::int64_t columns, bool aligned, const F& f) {
  if (storage == Storage::bf16) {
    if (aligned && columns % 8 == 0 && columns <= 512)
      return f(__nv_bfloat16{}, Constant<8>{}, Constant<2>{});
    if (aligned && columns % 8 == 0 && columns <= 1024)
      return f(__nv_bfloat16{}, Constant<8>{}, Constant<4>{});
    return f(__nv_bfloat16{}, Constant<1>{}, Constant<0>{});
  }
  if (aligned && columns % 4 == 0 && columns <= 512) return f(float{}, Constant<4>{}, Constant<4>{});
  f(float{}, Constant<1>{}, Constant<0>{});
}

}  // namespace fairway::ops::cuda
