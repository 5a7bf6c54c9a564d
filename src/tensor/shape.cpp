#include "fairway/tensor/shape.h"

#include "fairway/base/error.h"

#include <algorithm>
#include <span>

#include <fmt/ranges.h>

namespace fairway::tensor {

Shape::Shape(std::initializer_list<std::int64_t> extents)
    : Shape(std::span(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const std::int64_t> extents) : rank_(static_cast<int>(extents.size())) {
  base::check(extents.size() <= max_rank, "shape of rank {} (at most {})", extents.size(), max_rank);
  std::int64_t elements = 1;
  for (const std::int64_t extent : extents) {
    base::check(extent >= 0, "shape with the negative extent {}", extent);
    base::check(!__builtin_mul_overflow(elements, extent, &elements), "shape with more than 2^63 elements");
  }
  std::copy(extents.begin(), extents.end(), extents_.begin());
}

std::int64_t Shape::operator[](int axis) const {
  const int at = axis < 0 ? axis + rank_ : axis;
  base::check(at >= 0 && at < rank_, "axis {} of shape {}", axis, str());
  return extents_[static_cast<std::size_t>(at)];
}

std::int64_t Shape::elements() const noexcept {
  std::int64_t product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= extents_[static_cast<std::size_t>(axis)];
  return product;
}

std::int64_t Shape::rows() const {
  std::int64_t product = 1;
  for (int axis = 0; axis + 1 < rank_; ++axis) product *= extents_[static_cast<std::size_t>(axis)];
  return product;
}

std::int64_t Shape::columns() const { return rank_ == 0 ? 1 : (*this)[-1]; }

Shape Shape::with(int axis, std::int64_t extent) const {
  const int at = axis < 0 ? axis + rank_ : axis;
  base::check(at >= 0 && at < rank_, "axis {} of shape {}", axis, str());
  auto extents = extents_;
  extents[static_cast<std::size_t>(at)] = extent;
  return Shape(std::span<const std::int64_t>(extents.data(), static_cast<std::size_t>(rank_)));
}

std::string Shape::str() const {
  return fmt::format("[{}]", fmt::join(extents_.begin(), extents_.begin() + rank_, ", "));
}

}  // namespace fairway::tensor
