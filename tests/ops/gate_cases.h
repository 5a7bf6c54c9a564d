#pragma once
// Cases of the gates and lanes of the CaseOps systems, for tests on every device.

#include "fairway/ops/gates.h"
#include "fairway/ops/two_lanes.h"
#include "ops/direct.h"

namespace fairway::ops::harness {

inline OpCase gated_skip_case(const Shape& shape) {
  const Shape channels{shape.columns()};
  auto c = op_case("gated_skip " + shape.str(), std::make_shared<GatedSkip>(),
                   {tensor_input(shape, normal()), tensor_input(shape, normal()),
                    tensor_input(channels, normal(0.3, 1)), tensor_input(channels, normal())});
  c.add_outputs = {0};
  c.rejects = {{{DType::f32, shape}, {DType::f32, shape}, {DType::f32, {2, 2}}, {DType::f32, channels}}};
  return c;
}

struct GateSizes {
  std::int64_t batch, queries, positions, heads, dh, columns, channels;
};
inline OpCase head_gate_case(const GateSizes& z, float factor) {
  auto c = op_case(fmt::format("head_gate S={} C={} x{}", z.positions, z.channels, factor),
                   std::make_shared<HeadGate>(0.5f, factor),
                   {tensor_input({z.batch, z.queries, z.heads, z.dh}, normal()),
                    tensor_input({z.batch, z.positions, z.columns}, normal()),
                    tensor_input({z.heads, z.channels}, normal(0.5))});
  c.add_outputs = {0};
  c.rejects = {{{DType::f32, {z.batch, z.queries, z.heads, z.dh}},
                {DType::f32, {z.batch, z.positions, z.columns}},
                {DType::f32, {z.heads, z.columns + 1}}}};
  return c;
}

/// With everything: documents that begin, shut gates, and (`carried`) a row before the rows.
inline OpCase token_smear_case(const Shape& shape, std::int64_t channels, bool carried) {
  auto c = op_case(fmt::format("token_smear {} C={} {}", shape.str(), channels, carried ? "carried" : ""),
                   std::make_shared<TokenSmear>(1, std::vector<int>{5, 6}),
                   {tensor_input(shape, normal()), index_input({shape[0], shape[1]}, integers(0, 7)),
                    tensor_input({1, channels}, normal()), tensor_input({1}, constant(0.7))});
  if (carried) {
    c.inputs.push_back(tensor_input({shape[0], shape[2]}, normal(), false));
    c.inputs.push_back(index_input({shape[0]}, integers(-1, 7)));
  }
  c.add_outputs = {0};
  return c;
}

inline OpCase two_lanes_case(const Shape& shape, bool join) {
  const auto stream = [&] { return tensor_input(shape, normal()); };
  const auto channels = [&] { return tensor_input({shape.columns()}, normal()); };
  auto c = op_case(fmt::format("two_lanes {} {}", shape.str(), join ? "join" : ""),
                   std::make_shared<TwoLanes>(join),
                   {stream(), stream(), stream(), stream(), channels(), channels(),
                    tensor_input({2}, normal()), tensor_input({2, 2}, normal())});
  c.add_outputs = {0};
  if (!join) c.add_outputs.push_back(1);
  c.tolerance = 5e-5;  // sums over all channels
  return c;
}

}  // namespace fairway::ops::harness
