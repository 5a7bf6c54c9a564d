#include "fairway/ops/matmul.h"

#include <algorithm>

#include "matmul_tiling.h"
#include "row_splits.h"
#include "rule.h"

namespace fairway::ops {
namespace {

// Measured with oneDNN 2.6 on Zen 4 cores (fairway-bench-ops): on an idle machine sgemm is within 5 % of its
// peak from 128 x 128 x 128 on, but large tiles share packing and suffer less when cores compete for the
// cache. So few tiles first share out a long sum (weight gradients), and only then shrink. Below some 40 us
// of work a tile costs more in waking threads than it brings.
constexpr std::int64_t wanted_tiles = 16;
constexpr std::int64_t smallest_work = 2 << 20;  // multiply-adds
constexpr std::int64_t largest_m = 256, largest_n = 512;
constexpr std::int64_t smallest_tile = 64;
constexpr std::int64_t smallest_split = 512;

/// Extent of one of `parts` even parts, in whole vectors.
std::int64_t even_part(std::int64_t extent, std::int64_t parts) {
  return std::min(extent, ceil_div(ceil_div(extent, parts), 16) * 16);
}

struct Extents {
  std::int64_t m = 0, n = 0, k = 0;
};

Extents extents(const Matmul& op, std::span<const Meta> in) {
  const Shape &a = in[0].shape, &b = in[1].shape;
  return {op.transpose_a ? a.columns() : a.rows(), op.transpose_b ? b.rows() : b.columns(),
          op.transpose_a ? a.rows() : a.columns()};
}

}  // namespace

std::size_t rounded_operand_bytes(const Meta& operand) {
  return (static_cast<std::size_t>(operand.shape.elements()) * sizeof(tensor::bf16) + 255) / 256 * 256;
}

MatmulTiling tile_matmul(std::int64_t m, std::int64_t n, std::int64_t k) {
  MatmulTiling tiling;
  tiling.tile_m = even_part(m, ceil_div(m, largest_m));
  tiling.tile_n = even_part(n, ceil_div(n, largest_n));
  tiling.splits = 1;
  auto recount = [&] {
    tiling.tiles_m = ceil_div(m, std::max<std::int64_t>(1, tiling.tile_m));
    tiling.tiles_n = ceil_div(n, std::max<std::int64_t>(1, tiling.tile_n));
    tiling.split_k = tiling.splits == 1 ? k : ceil_div(ceil_div(k, tiling.splits), 64) * 64;
  };
  recount();
  if (tiling.tiles() > 0 && tiling.tiles() < wanted_tiles && k >= 2 * smallest_split) {
    tiling.splits = std::min(wanted_tiles / tiling.tiles(), k / smallest_split);
    recount();
    tiling.splits = ceil_div(k, tiling.split_k);
  }
  while (tiling.tiles() < wanted_tiles &&
         tiling.tile_m * tiling.tile_n * tiling.split_k >= 2 * smallest_work) {
    std::int64_t& larger = tiling.tile_m > tiling.tile_n ? tiling.tile_m : tiling.tile_n;
    if (larger < 2 * smallest_tile) break;
    larger = even_part(larger, 2);
    recount();
  }
  return tiling;
}

std::vector<Meta> Matmul::infer(std::span<const Meta> in) const {
  base::check(in.size() == 2, "matmul takes 2 inputs, got {}", in.size());
  const Shape &a = in[0].shape, &b = in[1].shape;
  const DType t = in[0].dtype;
  base::check(t == in[1].dtype && (t == DType::f32 || t == DType::f64 || t == DType::bf16),
              "matmul of {} and {}", dtype_name(t), dtype_name(in[1].dtype));
  base::check(a.rank() >= 2 && b.rank() >= 2, "matmul of {} and {}: matrices expected", a.str(), b.str());
  const Extents e = extents(*this, in);
  const std::int64_t other_k = transpose_b ? b.columns() : b.rows();
  base::check(e.k == other_k, "matmul of {}{} and {}{}: {} against {}", a.str(), transpose_a ? "^T" : "",
              b.str(), transpose_b ? "^T" : "", e.k, other_k);
  return {{result == ProductResult::wide && t == DType::bf16 ? DType::f32 : t,
           transpose_a ? Shape{e.m, e.n} : a.with(a.rank() - 1, e.n)}};
}

Cost Matmul::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  const Extents e = extents(*this, in);
  cost.flops = 2.0 * static_cast<double>(e.m) * static_cast<double>(e.n) * static_cast<double>(e.k);
  return cost;
}

std::vector<BackwardStep> Matmul::backward() const {
  std::vector<BackwardStep> steps;
  if (transpose_a)  // da = op(b) dc^T
    steps.push_back({std::make_shared<Matmul>(transpose_b, true), {input(1), grad(0)}, {0}});
  else  // da = dc op(b)^T
    steps.push_back({std::make_shared<Matmul>(false, !transpose_b), {grad(0), input(1)}, {0}});
  if (transpose_b)  // db = dc^T op(a)
    steps.push_back(
        {std::make_shared<Matmul>(true, transpose_a, ProductResult::wide), {grad(0), input(0)}, {1}});
  else  // db = op(a)^T dc
    steps.push_back(
        {std::make_shared<Matmul>(!transpose_a, false, ProductResult::wide), {input(0), grad(0)}, {1}});
  return steps;
}

/// Splits of K, then both operands rounded to bf16: as bf16 where the processor multiplies it, else as
/// floats.
std::size_t Matmul::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  if (in[0].dtype != DType::f32) return 0;
  const Extents e = extents(*this, in);
  const std::int64_t partial = (tile_matmul(e.m, e.n, e.k).splits - 1) * e.m * e.n;
  const std::size_t cpu = static_cast<std::size_t>(partial) * sizeof(float) + in[0].bytes() + in[1].bytes();
  return std::max(cpu, rounded_operand_bytes(in[0]) + rounded_operand_bytes(in[1]));
}

std::string Matmul::attributes() const {
  return fmt::format("a{} b{}{}", transpose_a ? "^T" : "", transpose_b ? "^T" : "",
                     result == ProductResult::wide ? " wide" : "");
}

namespace {
const Matmul linear(false, true);
}

bool fused_linear_fits(const Meta& x, const Meta& y) {
  return x.dtype == DType::bf16 && y.shape.rows() <= INT32_MAX / 2 &&
         fused_linear_fits(y.shape.columns(), x.shape.columns());
}

Meta row_squares_of(const Meta& rows) {
  const auto& shape = rows.shape;
  return {rule::wide(rows.dtype),
          shape.with(shape.rank() - 1, (shape.columns() + squares_width - 1) / squares_width)};
}

std::vector<Meta> LinearAdd::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  const auto y = linear.infer(in.first(2)).front();
  rule::exactly(*this, in, 2, y);
  return squares ? std::vector{y, row_squares_of(y)} : std::vector{y};
}
Cost LinearAdd::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = linear.cost(in.first(2), out.first(1)).flops;
  return cost;
}
std::vector<BackwardStep> LinearAdd::backward() const {
  auto steps = linear.backward();
  steps.push_back({nullptr, {grad(0)}, {2}});
  return steps;
}
std::size_t LinearAdd::workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const {
  return linear.workspace_bytes(in.first(2), out.first(1));
}

}  // namespace fairway::ops
