#pragma once
// Shape rules, shared by the operators' infer functions.

#include <span>

#include "fairway/ops/operator.h"

namespace fairway::ops::rule {

using Metas = std::span<const Meta>;

/// Input i is there: inputs past the end of the list and those of rank 0 are absent.
inline bool present(Metas in, std::size_t i) { return i < in.size() && in[i].shape.rank() > 0; }

/// The number of inputs lies in [least, most].
void count(const Operator& op, Metas in, std::size_t least, std::size_t most);
/// Input i is f32 or f64 and has an axis.
void floating(const Operator& op, Metas in, std::size_t i);
/// Input i is f32, f64 or (for a GPU) bf16, and has an axis.
void activation(const Operator& op, Metas in, std::size_t i);
/// What numbers beside bf16 activations are stored in (parameters of channels, sums, r, lse): f32; else the
/// same.
constexpr DType wide(DType activation) { return activation == DType::bf16 ? DType::f32 : activation; }
/// Input i is exactly this.
void exactly(const Operator& op, Metas in, std::size_t i, const Meta& expected);
/// Input i is absent or exactly this.
void optional(const Operator& op, Metas in, std::size_t i, const Meta& expected);
/// Anything else: `what` says what does not hold.
void require(const Operator& op, bool ok, std::string_view what);

/// The shape without its last axis; [1] for one axis.
Shape leading(const Shape& shape);
/// Shape and dtype of one number for each row of activations.
inline Meta per_row(const Meta& x) { return {wide(x.dtype), leading(x.shape)}; }
/// Workspace for partial sums on any device: `width` of them for each split of the rows of activations x
/// (row_splits.h).
std::size_t partial_bytes(const Meta& x, std::int64_t width);
/// The shape with one more axis.
Shape append(const Shape& shape, std::int64_t extent);

}  // namespace fairway::ops::rule
