#include "fairway/graph/passes.h"

#include "passes/passes.h"
#include "rewriter.h"

#include <algorithm>

namespace fairway::graph {

namespace {

constexpr Pass fold_scales{"fold_scales", "a channel scale moves into the matrix before it",
                           passes::fold_scales, true};
constexpr Pass residual_norm{"residual_norm", "a residual sum and the norm of it in one step",
                             passes::residual_norm};
constexpr Pass fuse_mlp{"fuse_mlp", "the activation of the MLP inside its products", passes::fuse_mlp};
constexpr Pass fuse_heads{"fuse_heads", "norm, rotation and gain of heads inside their projection",
                          passes::fuse_heads};
constexpr Pass fuse_gated_xsa{"fuse_gated_xsa",
                              "exclusive self attention and the gates of its heads in one step",
                              passes::fuse_gated_xsa};
constexpr Pass defer_norms{"defer_norms", "normed rows are never stored: products apply the factor of a row",
                           passes::defer_norms};
constexpr Pass recompute_activations{"recompute_activations",
                                     "what an activation alone made is made again for its backward, not kept",
                                     passes::recompute_activations, false, true};

/// Which values stand above a trainable parameter: passes have moved the steps between them.
void find_gradients(Graph& graph) {
  const auto needs = [&](ValueId v) { return v != absent && graph.at(graph.root(v)).requires_grad; };
  for (const auto& step : graph.steps) {
    const bool any = !step.op->backward().empty() && std::ranges::any_of(step.in, needs);
    for (const auto out : step.out)
      if (out != absent && graph.at(graph.root(out)).kind == BufferKind::scratch)
        graph.at(graph.root(out)).requires_grad = any;
  }
  for (auto& v : graph.values) v.requires_grad = graph.at(v.root).requires_grad;
}

}  // namespace

Passes all_passes() {
  return {&fold_scales, &residual_norm,        &fuse_mlp, &fuse_heads, &fuse_gated_xsa,
          &defer_norms, &recompute_activations};
}
Passes cpu_passes() { return {&residual_norm}; }

void rewrite(Graph& graph, const Passes& passes) {
  for (const auto* pass : passes) {
    if (pass->after_derivation) continue;
    Rewriter rewriter(graph, pass->name);
    pass->run(rewriter);
    find_gradients(graph);
  }
}

void rewrite_derived(Graph& graph, const Passes& passes) {
  for (const auto* pass : passes) {
    if (!pass->after_derivation) continue;
    Rewriter rewriter(graph, pass->name);
    pass->run(rewriter);
  }
}

}  // namespace fairway::graph
