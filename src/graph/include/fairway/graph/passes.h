#pragma once
// Passes: between recording and derivation (few: after it) they replace a few plain steps by an operator that
// does the same in fewer trips through memory. Where a pattern does not match, the plain steps stay, right
// and slower; a note says why. Which passes run is the device's matter (exec), not the model's. A new pass is
// a file in passes/ and a line in the table of passes.cpp.

#include "fairway/graph/graph.h"

#include <span>
#include <string_view>

namespace fairway::graph {

class Rewriter;

struct Pass {
  std::string_view name;
  std::string_view what;  ///< one line for people
  void (*run)(Rewriter&);
  bool changes_weights = false;   ///< products read something else than the weights afterwards (Graph::folds)
  bool after_derivation = false;  ///< it looks at the backward, too
};
/// In the order in which they run.
using Passes = std::vector<const Pass*>;

/// All passes in their order. Those for a GPU look for kernels that a CPU does not have.
Passes all_passes();
/// What a CPU gains from.
Passes cpu_passes();

/// Runs those before derivation and works out again which values have a gradient.
void rewrite(Graph& graph, const Passes& passes);
/// Runs the others.
void rewrite_derived(Graph& graph, const Passes& passes);

}  // namespace fairway::graph
