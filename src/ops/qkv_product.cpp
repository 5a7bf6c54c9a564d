#include "fairway/ops/qkv_product.h"

#include "fairway/ops/matmul.h"
#include "qkv_shapes.h"

#include <array>

namespace fairway::ops {
namespace {

const Matmul linear(false, true);

/// The product's left operand.
std::size_t operand(const QkvProduct& op) { return op.row_scale ? 8 : 0; }
std::array<Meta, 2> product_of(const QkvProduct& op, std::span<const Meta> in) {
  return {in[operand(op)], in[1]};
}

}  // namespace

bool qkv_product_fits(const HeadShape& heads, int rope_dims, const Meta& rows) {
  return rows.dtype == DType::bf16 && rows.shape.rows() <= INT32_MAX / 2 &&
         qkv_product_fits(heads, rope_dims, rows.shape.columns());
}

std::vector<Meta> QkvProduct::infer(std::span<const Meta> in) const {
  rule::count(*this, in, row_scale ? 10 : 4, row_scale ? 10 : 8);
  const auto product = product_of(*this, in);
  rule::activation(*this, product, 0);
  rule::require(*this, product[0].shape.rank() == 3, "the product's rows are not [B, S, D]");
  const QkvShapes shapes(*this, shape, product[0].dtype, product[0].shape);
  rule::exactly(*this, linear.infer(product), 0, shapes.qkv);
  shapes.check_rope(*this, in, 2, shape, rope_dims);
  shapes.check_value_embedding(*this, in, 5, value_embedding);
  if (row_scale) {
    rule::optional(*this, in, 0, in[8]);
    rule::exactly(*this, in, 9, shapes.per_row);
  }
  return {shapes.q, shapes.kv, shapes.kv, shapes.rr};
}
Cost QkvProduct::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  const auto product = product_of(*this, in);
  cost.flops = linear.cost(product, linear.infer(product)).flops;
  return cost;
}
std::vector<BackwardStep> QkvProduct::backward() const {
  std::vector<int> grads = {to_temporary(0), 2};
  if (value_embedding) grads.insert(grads.end(), {5, 6, 7});
  const Ref a = input(static_cast<int>(operand(*this))), dz = temporary(0);
  return {{std::make_shared<QkvBackward>(shape, rope_dims, value_embedding, row_scale.value_or(1)),
           {input(2), input(3), input(4), output(3), output(0), output(1), input(9), input(5), input(6),
            input(7), grad(0), grad(1), grad(2)},
           std::move(grads)},
          {std::make_shared<Matmul>(false, false), {dz, input(1)}, {0}},
          {std::make_shared<Matmul>(true, false, ProductResult::wide), {dz, a}, {1}}};
}
std::vector<int> QkvProduct::gradient_only() const {
  return row_scale ? std::vector<int>{0} : std::vector<int>{};
}
std::string QkvProduct::attributes() const {
  return QkvPrepare(shape, rope_dims, eps, value_embedding).attributes() +
         (row_scale ? fmt::format(" row_scale={}", *row_scale) : "");
}

}  // namespace fairway::ops
