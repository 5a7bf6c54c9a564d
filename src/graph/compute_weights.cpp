#include "fairway/graph/compute_weights.h"

#include "fairway/base/error.h"
#include "fairway/graph/builder.h"
#include "fairway/ops/cast_rows.h"

#include <algorithm>
#include <memory>

namespace fairway::graph {
namespace {

int levels(const ParameterLayout& layout, const std::string& matrix, const QuantLevels& quantize) {
  if (!quantize || layout.find(matrix).role == Role::embedding) return 0;
  const auto parts = layout.parts(matrix);
  const int q = quantize(layout.find(parts.front()));
  for (const auto& part : parts)
    base::check(quantize(layout.find(part)) == q, "parts of '{}' are quantised differently", matrix);
  return q;
}

}  // namespace

Graph build_refresh(const ParameterLayout& layout, tensor::DType dtype, std::span<const Fold> folds,
                    const QuantLevels& quantize) {
  Builder b(quantize ? "refresh-quantised" : "refresh", layout, dtype);
  const auto result = dtype == tensor::DType::bf16 ? dtype : tensor::DType::f32;
  for (const auto& matrix : layout.multiplied()) {
    b.scope(matrix);
    const auto fold = std::ranges::find(folds, matrix, &Fold::weight);
    b.write(std::make_shared<const ops::CastRows>(levels(layout, matrix, quantize), result),
            {b.parameter(matrix), fold == folds.end() ? absent : b.parameter(fold->scale)},
            {b.compute_weight(matrix)});
  }
  auto graph = b.finish();
  graph.folds.assign(folds.begin(), folds.end());
  return graph;
}

Graph build_unfold(const ParameterLayout& layout, tensor::DType dtype, std::span<const Fold> folds,
                   const QuantLevels& quantize) {
  Builder b(quantize ? "unfold-quantised" : "unfold", layout, dtype);
  for (const auto& fold : folds) {
    if (!fold.trains) continue;
    b.scope(fold.weight);
    const auto gradient = b.gradient(fold.weight);
    b.write(std::make_shared<const ops::CastRowsBackward>(levels(layout, fold.weight, quantize)),
            {b.parameter(fold.weight), b.parameter(fold.scale), gradient},
            {gradient, b.gradient(fold.scale)});
  }
  return b.finish();
}

}  // namespace fairway::graph
