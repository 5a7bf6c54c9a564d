#pragma once
// Cases of the norms, for tests on both kinds of device.

#include "fairway/ops/norm.h"

#include "ops/direct.h"

namespace fairway::ops::harness {

constexpr float eps = 0x1p-23f;

/// Draws for a mix [2, D] or a scale [D].
inline InputSpec channels(Shape shape) { return tensor_input(shape, normal(0.5, 1)); }

inline OpCase mix_case(const Shape& shape, bool deferred, bool skip) {
  const auto d = shape.columns();
  auto c =
      op_case(fmt::format("mix_norm {}{}{}", shape.str(), deferred ? " deferred" : "", skip ? " skip" : ""),
              std::make_shared<MixNorm>(0.5f, eps, deferred, skip),
              {tensor_input(shape, normal()), tensor_input(shape, normal()), channels({2, d})}, {2});
  if (skip) {
    c.inputs.push_back(tensor_input(shape, normal()));
    c.inputs.push_back(channels({d}));
  }
  c.add_outputs = {0, 1};
  // What a deferred norm reads as dy is no derivative of y; MixNorm.PrescaledIsTheSame covers its values.
  c.finite_differences = !deferred;
  return c;
}

}  // namespace fairway::ops::harness
