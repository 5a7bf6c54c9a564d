#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// Columns whose squares are summed together: what one block of a GPU's product kernel has of a row.
inline constexpr std::int64_t squares_width = 128;

/// The sums of squares [..., ceil(D / 128)] of rows [..., D]: f32, f64 beside f64.
Meta row_squares_of(const Meta& rows);

/// Sums of squares of each row, 128 columns at a time, for the norm that follows (norm.h): what LinearAdd's
/// second output is, where it does not come with the product.   in: x [..., D];  out: squares. No gradient.
class RowSquares final : public Operator {
 public:
  std::string_view name() const override { return "row_squares"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
};

}  // namespace fairway::ops
