#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace fairway::tensor {

/// Extents of a dense row-major array, rank 0 (one element) to 6.
class Shape {
 public:
  static constexpr int max_rank = 6;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);
  explicit Shape(
      std::span<const std::int64_t> extents);  ///< checks rank, signs and that the product fits 63 bits

  int rank() const noexcept { return rank_; }
  std::int64_t operator[](int axis) const;          ///< negative axes count from the end
  std::int64_t elements() const noexcept;           ///< product of extents; 1 for rank 0
  std::int64_t rows() const;                        ///< product of all but the last extent
  std::int64_t columns() const;                     ///< the last extent; 1 for rank 0
  Shape with(int axis, std::int64_t extent) const;  ///< a copy with one extent changed
  bool operator==(const Shape&) const = default;
  std::string str() const;  ///< "[2, 2048, 512]"

 private:
  std::array<std::int64_t, max_rank> extents_{};
  int rank_ = 0;
};

}  // namespace fairway::tensor
