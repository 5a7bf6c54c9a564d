#pragma once
// Programs between the weights that are trained and those that products read.

#include "fairway/graph/graph.h"
#include "fairway/graph/parameters.h"

#include <functional>
#include <span>

namespace fairway::graph {

/// q of the straight-through row quantiser for a matrix (31: int6, 15: int5; 0:
/// none). Parts of a packed matrix must agree. Embeddings are never quantised. Empty: none.
using QuantLevels = std::function<int(const Parameter&)>;

/// The program "refresh" (or "refresh-quantised") that rewrites a store's compute weights from its values:
/// rounded to `dtype`, fake-quantised, with the scales of `folds` (of the programs that will read them)
/// multiplied in. Run it after the weights were set and after each update.
Graph build_refresh(const ParameterLayout& layout, tensor::DType dtype, std::span<const Fold> folds,
                    const QuantLevels& quantize = {});

/// The program "unfold" (or "unfold-quantised") that turns the gradients of folded weights into those of the
/// weights and of their scales, for the folds of a training program; once per step, after the last
/// micro-batch. `quantize` as in the refresh that the gradients belong to. No steps where no fold trains.
Graph build_unfold(const ParameterLayout& layout, tensor::DType dtype, std::span<const Fold> folds,
                   const QuantLevels& quantize = {});

}  // namespace fairway::graph
