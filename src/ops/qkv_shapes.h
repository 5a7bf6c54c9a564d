#pragma once
// Shapes of everything around the query/key/value projection, shared by the rules of its operators.

#include "fairway/ops/qkv.h"
#include "rule.h"

namespace fairway::ops {

struct QkvShapes {
  Meta qkv, gain, q, kv, rr, ve, one, per_row;
  /// Of rows [B, S, ...] of activations of dtype t. Throws where the heads make no sense.
  QkvShapes(const Operator& op, const HeadShape& h, DType t, const Shape& rows);
  /// gain, rope and offset stand at `first`.
  void check_rope(const Operator& op, rule::Metas in, std::size_t first, const HeadShape& h,
                  int rope_dims) const;
  /// ve, vs, w stand at `first`, or are all absent.
  void check_value_embedding(const Operator& op, rule::Metas in, std::size_t first, bool expected) const;
};

}  // namespace fairway::ops
