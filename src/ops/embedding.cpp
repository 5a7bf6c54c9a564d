#include "fairway/ops/embedding.h"

#include <algorithm>

#include "gather_layout.h"
#include "rule.h"

namespace fairway::ops {
namespace {

void check_table(const Operator& op, std::span<const Meta> in) {
  const Meta& table = in[0];
  if (table.dtype != DType::bf16) rule::floating(op, in, 0);
  rule::require(op, table.shape.rank() == 2 && table.shape[0] > 0, "input 0 is not a table [V, D]");
  rule::require(op, in[1].dtype == DType::i32 && in[1].shape.rank() > 0, "input 1 is not an i32 index");
}

/// What rows are computed in.
DType widened(DType stored) { return stored == DType::f64 ? DType::f64 : DType::f32; }

Meta rows_of(const Meta& table, const Meta& index, DType result) {
  return {table.dtype == DType::f64 ? DType::f64 : result, rule::append(index.shape, table.shape[1])};
}

}  // namespace

std::vector<Meta> Gather::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  check_table(*this, in);
  rule::require(*this, result == DType::f32 || result == DType::bf16, "the result is neither f32 nor bf16");
  return {rows_of(in[0], in[1], result)};
}
std::vector<BackwardStep> Gather::backward() const {
  return {{std::make_shared<GatherBackward>(), {input(0), input(1), grad(0)}, {0}}};
}

std::string Gather::attributes() const { return result == DType::bf16 ? "bf16" : ""; }

std::vector<Meta> GatherBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  check_table(*this, in);
  const bool narrow = in[2].dtype == DType::bf16;
  rule::exactly(*this, in, 2, rows_of(in[0], in[1], narrow ? DType::bf16 : DType::f32));
  return {{widened(in[0].dtype), in[0].shape}};
}
std::size_t GatherBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  const auto rows = in[0].shape[0], positions = in[1].shape.elements();
  const auto device = layout_gather_gradient(rows, positions, in[0].shape[1]).end;
  return static_cast<std::size_t>(std::max(rows + positions, device)) * sizeof(std::int32_t);
}

std::vector<Meta> BigramIndex::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 2);
  rule::require(*this, rows >= 2, "fewer than two rows");
  rule::require(*this, in[0].dtype == DType::i32 && in[0].shape.rank() == 2, "input 0 is not i32 [B, S]");
  rule::optional(*this, in, 1, {DType::i32, {in[0].shape[0]}});
  return {in[0]};
}
std::string BigramIndex::attributes() const { return fmt::format("rows={}", rows); }

}  // namespace fairway::ops
