#include "rule.h"

#include <algorithm>

#include "row_splits.h"

namespace fairway::ops::rule {
namespace {

std::string describe(const Meta& m) {
  return fmt::format("{} {}", tensor::dtype_name(m.dtype), m.shape.str());
}

}  // namespace

void count(const Operator& op, Metas in, std::size_t least, std::size_t most) {
  base::check(in.size() >= least && in.size() <= most, "{}: {} inputs, expected {} to {}", op.name(),
              in.size(), least, most);
}

void floating(const Operator& op, Metas in, std::size_t i) {
  base::check(in[i].dtype == DType::f32 || in[i].dtype == DType::f64,
              "{}: input {} is {}, expected f32 or f64", op.name(), i, describe(in[i]));
  base::check(in[i].shape.rank() > 0, "{}: input {} has no axis", op.name(), i);
}

void activation(const Operator& op, Metas in, std::size_t i) {
  const DType t = in[i].dtype;
  base::check(t == DType::f32 || t == DType::f64 || t == DType::bf16,
              "{}: input {} is {}, expected f32, f64 or bf16", op.name(), i, describe(in[i]));
  base::check(in[i].shape.rank() > 0, "{}: input {} has no axis", op.name(), i);
}

void exactly(const Operator& op, Metas in, std::size_t i, const Meta& expected) {
  base::check(in[i] == expected, "{}: input {} is {}, expected {}", op.name(), i, describe(in[i]),
              describe(expected));
}

void optional(const Operator& op, Metas in, std::size_t i, const Meta& expected) {
  if (present(in, i)) exactly(op, in, i, expected);
}

void require(const Operator& op, bool ok, std::string_view what) {
  base::check(ok, "{}: {}", op.name(), what);
}

Shape leading(const Shape& shape) {
  if (shape.rank() <= 1) return {1};
  std::vector<std::int64_t> extents;
  for (int i = 0; i + 1 < shape.rank(); ++i) extents.push_back(shape[i]);
  return Shape(extents);
}

Shape append(const Shape& shape, std::int64_t extent) {
  std::vector<std::int64_t> extents;
  for (int i = 0; i < shape.rank(); ++i) extents.push_back(shape[i]);
  extents.push_back(extent);
  return Shape(extents);
}

std::size_t partial_bytes(const Meta& x, std::int64_t width) {
  const auto rows = x.shape.rows();
  const auto most = std::max(split_rows(rows, x.shape.columns()).count, split_rows_on_device(rows).count);
  return static_cast<std::size_t>(most * width) * tensor::size_of(wide(x.dtype));
}

}  // namespace fairway::ops::rule
