#include "fairway/ops/row_squares.h"

#include "rule.h"

namespace fairway::ops {

Meta row_squares_of(const Meta& rows) {
  const auto& shape = rows.shape;
  return {rule::wide(rows.dtype),
          shape.with(shape.rank() - 1, (shape.columns() + squares_width - 1) / squares_width)};
}

std::vector<Meta> RowSquares::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 1);
  rule::activation(*this, in, 0);
  return {row_squares_of(in[0])};
}

}  // namespace fairway::ops
