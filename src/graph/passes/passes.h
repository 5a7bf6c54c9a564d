#pragma once
#include "rewriter.h"

namespace fairway::graph::passes {

/// x + s . (h W^T), s per channel -> LinearAdd(h, s W, x): no pass over activations is left of the scale.
/// The compute weight holds s W (Fold); gradients come back through build_unfold.
void fold_scales(Rewriter& rewriter);
/// x + s . a, then its RMS norm -> ResidualNorm.
void residual_norm(Rewriter& rewriter);
/// Linear, LeakyReluSquared, LinearAdd (or Linear) -> LinearReluSquared, ReluSquaredLinearAdd
/// (ops/linear_relu_squared.h), where their kernel fits.
void fuse_mlp(Rewriter& rewriter);
/// Linear, QkvPrepare -> QkvProduct (ops/qkv_product.h), where its kernel fits.
void fuse_heads(Rewriter& rewriter);
/// Xsa, HeadGate -> GatedXsa (ops/gated_xsa.h), where its kernel fits.
void fuse_gated_xsa(Rewriter& rewriter);
/// A norm that only fused products read keeps its rows to itself (ops/norm.h, "deferred").
void defer_norms(Rewriter& rewriter);
/// After derivation: a squared leaky ReLU of its own is made again where its backward begins and not kept
/// from the forward on; its input is kept anyway (activation checkpointing, Chen et al. 2016, of one
/// operator).
void recompute_activations(Rewriter& rewriter);

}  // namespace fairway::graph::passes
