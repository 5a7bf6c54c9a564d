#pragma once
#include "fairway/base/error.h"
#include "fairway/tensor/dtype.h"
#include "fairway/tensor/shape.h"

#include <cstddef>
#include <span>

namespace fairway::tensor {

/// What an array is, without where it is.
struct Meta {
  DType dtype = DType::f32;
  Shape shape;
  std::size_t bytes() const noexcept { return static_cast<std::size_t>(shape.elements()) * size_of(dtype); }
  bool operator==(const Meta&) const = default;
};

/// A dense row-major array in somebody else's memory (host or device). A null `data` means "absent".
struct View {
  void* data = nullptr;
  Meta meta;

  explicit operator bool() const noexcept { return data != nullptr; }
  const Shape& shape() const noexcept { return meta.shape; }
  DType dtype() const noexcept { return meta.dtype; }
  std::int64_t elements() const noexcept { return meta.shape.elements(); }
  std::size_t bytes() const noexcept { return meta.bytes(); }

  /// Typed pointer; checks the dtype. Null for an absent view.
  template <class T>
  T* as() const {
    if (data)
      base::check(meta.dtype == dtype_of<std::remove_const_t<T>>::value, "view is {}",
                  dtype_name(meta.dtype));
    return static_cast<T*>(data);
  }
  template <class T>
  std::span<T> span() const {
    return {as<T>(), data ? static_cast<std::size_t>(elements()) : 0};
  }
};

}  // namespace fairway::tensor
