#pragma once
// Checks that a score is a code length, by doing it again (docs/legality.md).

#include "fairway/pipeline/stages/adapt_stage.h"

#include <string>
#include <vector>

namespace fairway::pipeline {

struct VerifyRequest {
  AdaptRequest subject;
  int flips = 3;           ///< places where the text is changed
  int audit_windows = 16;  ///< windows whose distributions are summed
  std::uint64_t seed = 1;  ///< of the places
};

struct VerifyCheck {
  std::string name;
  bool ok = false;
  std::string figures;
};

struct VerifyReport {
  std::vector<VerifyCheck> checks;
  bool ok = false;   ///< all of them
  std::string json;  ///< verdict, score, checks
};

/// Adapts and scores as the recipe says, then again with the text changed from random places on. Input errors
/// as adapt_and_score; a failed check is not an error.
VerifyReport verify(const VerifyRequest& request, exec::Engine& engine);

}  // namespace fairway::pipeline
