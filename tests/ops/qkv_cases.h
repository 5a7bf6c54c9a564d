#pragma once
// Cases of the query/key/value operators, for tests on both kinds of device.

#include "fairway/ops/qkv_product.h"

#include <cmath>

#include "ops/direct.h"

namespace fairway::ops::harness {

struct QkvGeometry {
  HeadShape heads;
  int rope_dims;
  std::int64_t batch, length;
};

/// cos | sin of position * 10000^(-2 i / dims), as the model makes them.
inline std::vector<double> rope_table(std::int64_t positions, int dims) {
  std::vector<double> table;
  for (std::int64_t p = 0; p < positions; ++p)
    for (int part = 0; part < 2; ++part)
      for (int i = 0; i < dims / 2; ++i) {
        const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * i / dims);
        table.push_back(part ? std::sin(angle) : std::cos(angle));
      }
  return table;
}

/// Gains of both signs, none near 0 (a head is divided by its gain in backward).
inline Generator head_gains() {
  return [](const base::Random& r, std::uint64_t i) { return (i % 3 == 1 ? -0.7 : 1.5) + 0.2 * r.normal(i); };
}

struct QkvForm {
  bool value_embedding = false, offset = false, deferred = false;
};

/// QkvProduct of rows of `depth` columns; behind a deferred norm with row_scale 0.7.
inline OpCase qkv_product_case(const QkvGeometry& g, std::int64_t depth, const QkvForm& form) {
  const auto& h = g.heads;
  const Shape rows{g.batch, g.length, depth};
  const double scale = 1 / std::sqrt(static_cast<double>(depth));
  std::vector<InputSpec> in = {
      form.deferred ? absent_input() : tensor_input(rows, normal()),
      tensor_input({h.qkv_width(), depth}, normal(scale), !form.deferred),
      tensor_input({h.heads}, head_gains(), true),
      tensor_input({g.length + 9, g.rope_dims}, listed(rope_table(g.length + 9, g.rope_dims)), false),
      form.offset ? index_input({g.batch}, integers(0, 10)) : absent_input()};
  for (const Shape& shape : {Shape{g.batch, g.length, h.kv_width()}, Shape{1}, Shape{1}})
    in.push_back(form.value_embedding ? tensor_input(shape, normal()) : absent_input());
  if (form.deferred) {
    in.push_back(tensor_input(rows, normal(), false));
    in.push_back(tensor_input({g.batch, g.length}, uniform(0.5, 2), false));
  }
  const auto name =
      fmt::format("qkv_product H{} Hkv{} dh{} rope{} B{} S{} D{}{}{}{}", h.heads, h.kv_heads, h.head_dim,
                  g.rope_dims, g.batch, g.length, depth, form.value_embedding ? " ve" : "",
                  form.offset ? " offset" : "", form.deferred ? " deferred" : "");
  auto c = op_case(name,
                   std::make_shared<QkvProduct>(h, g.rope_dims, 0x1p-23f, form.value_embedding,
                                                form.deferred ? std::optional(0.7f) : std::nullopt),
                   std::move(in), {3});
  c.finite_differences = !form.deferred;  // what it gives is the gradient of m w^T
  c.probes = 6;
  return c;
}

}  // namespace fairway::ops::harness
