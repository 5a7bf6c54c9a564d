#include "matmul.h"

#include <algorithm>
#include <cstring>

#include "fairway/base/thread_pool.h"
#include "fairway/ops/matmul.h"
#include "fault.h"
#include "gemm.h"
#include "matmul_tiling.h"

namespace fairway::ops::cpu {
namespace {

constexpr std::int64_t elements_per_item = 1 << 16;

template <class Body>
void for_each(base::ThreadPool* pool, std::int64_t count, const Body& body) {
  if (pool && count > 1) return pool->run(count, body);
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

/// Calls body(first, count) over blocks of an array.
template <class Body>
void for_each_block(base::ThreadPool* pool, std::int64_t elements, const Body& body) {
  for_each(pool, (elements + elements_per_item - 1) / elements_per_item, [&](std::int64_t i) {
    const std::int64_t first = i * elements_per_item;
    body(first, std::min(elements_per_item, elements - first));
  });
}

/// Runs tile(shape, offset in a, in b, in c, split) over the tiling of a product.
template <class Tile>
void for_each_tile(base::ThreadPool* pool, const GemmShape& whole, const MatmulTiling& tiling,
                   const Tile& tile) {
  for_each(pool, tiling.tiles(), [&](std::int64_t item) {
    // Neighbouring items share the columns of b, which then stay in the shared cache.
    const std::int64_t i = item % tiling.tiles_m * tiling.tile_m;
    const std::int64_t j = item / tiling.tiles_m % tiling.tiles_n * tiling.tile_n;
    const std::int64_t split = item / (tiling.tiles_m * tiling.tiles_n), p = split * tiling.split_k;
    GemmShape part = whole;
    part.m = std::min(tiling.tile_m, whole.m - i);
    part.n = std::min(tiling.tile_n, whole.n - j);
    part.k = std::min(tiling.split_k, whole.k - p);
    const std::int64_t a = whole.transpose_a ? p * whole.lda + i : i * whole.lda + p;
    const std::int64_t b = whole.transpose_b ? j * whole.ldb + p : p * whole.ldb + j;
    tile(part, a, b, i * whole.ldc + j, split);
  });
}

GemmShape whole_product(const KernelArgs& args) {
  const auto& op = static_cast<const Matmul&>(args.op);
  const Shape &a = args.in[0].shape(), &b = args.in[1].shape(), &c = args.out[0].shape();
  return {op.transpose_a, op.transpose_b, c.rows(),   c.columns(), op.transpose_a ? a.rows() : a.columns(),
          a.columns(),    b.columns(),    c.columns()};
}

/// Workspace as Matmul::workspace_bytes lays it out.
struct Scratch {
  Scratch(const KernelArgs& args, const GemmShape& whole, const MatmulTiling& tiling)
      : partials(static_cast<float*>(args.workspace.data)),
        a(partials + (tiling.splits - 1) * whole.m * whole.n),
        b(a + args.in[0].elements()) {}
  float *partials, *a, *b;
};

void multiply_f64(const KernelArgs& args) {
  const GemmShape whole = whole_product(args);
  const double beta = args.write[0] == Write::add ? 1 : 0;
  MatmulTiling tiling = tile_matmul(whole.m, whole.n, whole.k);
  tiling.split_k = whole.k, tiling.splits = 1;  // no splits: the double form has no workspace
  const double *a = args.in[0].as<double>(), *b = args.in[1].as<double>();
  double* c = args.out[0].as<double>();
  for_each_tile(args.context.pool, whole, tiling,
                [&](const GemmShape& part, std::int64_t i, std::int64_t j, std::int64_t o, std::int64_t) {
                  gemm(part, 1.0, a + i, b + j, beta, c + o);
                });
}

void multiply_f32(const KernelArgs& args, const ProductHelpers& helpers) {
  const GemmShape whole = whole_product(args);
  const MatmulTiling tiling = tile_matmul(whole.m, whole.n, whole.k);
  const Scratch scratch(args, whole, tiling);
  base::ThreadPool* pool = args.context.pool;
  const bool add = args.write[0] == Write::add;
  const float *a = args.in[0].as<float>(), *b = args.in[1].as<float>();
  float* c = args.out[0].as<float>();
  const std::int64_t size = whole.m * whole.n;

  const bool rounded = args.context.products == DType::bf16, native = rounded && has_bf16_gemm();
  auto* a16 = reinterpret_cast<tensor::bf16*>(scratch.a);
  auto* b16 = reinterpret_cast<tensor::bf16*>(scratch.b);
  if (rounded) {
    auto round = [&](const float* from, float* to) {
      return [=](std::int64_t first, std::int64_t count) {
        if (native)
          helpers.to_bf16(from + first, reinterpret_cast<tensor::bf16*>(to) + first, count);
        else
          helpers.round_to_bf16(from + first, to + first, count);
      };
    };
    for_each_block(pool, args.in[0].elements(), round(a, scratch.a));
    for_each_block(pool, args.in[1].elements(), round(b, scratch.b));
    a = scratch.a, b = scratch.b;
  }
  for_each_tile(
      pool, whole, tiling,
      [&](const GemmShape& part, std::int64_t i, std::int64_t j, std::int64_t o, std::int64_t split) {
        float* to = split == 0 ? c + o : scratch.partials + (split - 1) * size + o;
        const bool sum = add && split == 0;
        if (native)
          gemm(part, a16 + i, b16 + j, sum, to);
        else
          gemm(part, 1.0f, a + i, b + j, sum ? 1.0f : 0.0f, to);
      });
  if (tiling.splits == 1) return;
  for_each_block(pool, size, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t split = 1; split < tiling.splits; ++split)
      helpers.add(scratch.partials + (split - 1) * size + first, c + first, count);
  });
}

void copy_view(base::ThreadPool* pool, const View& from, const View& to) {
  const auto each = tensor::size_of(from.dtype());
  for_each_block(pool, from.elements(), [&](std::int64_t first, std::int64_t count) {
    const auto offset = static_cast<std::size_t>(first) * each;
    std::memcpy(static_cast<std::byte*>(to.data) + offset, static_cast<const std::byte*>(from.data) + offset,
                static_cast<std::size_t>(count) * each);
  });
}

}  // namespace

void run_matmul(const KernelArgs& args, const ProductHelpers& helpers) {
  if (args.in[0].dtype() == DType::bf16) dtype_fault(DType::bf16);
  if (args.in[0].dtype() == DType::f64)
    multiply_f64(args);
  else
    multiply_f32(args, helpers);
}

void run_linear_add(const KernelArgs& args, const ProductHelpers& helpers) {
  if (!args.out[0].data) return;
  base::check(args.write[0] == Write::set, "linear_add: its result is not added to");
  const View &residual = args.in[2], &y = args.out[0];
  if (residual.data != y.data) copy_view(args.context.pool, residual, y);
  static const Matmul product(false, true);
  static constexpr Write add[] = {Write::add};
  run_matmul({product, args.in.first(2), args.out.first(1), add, args.workspace, args.context}, helpers);
}

}  // namespace fairway::ops::cpu
