#pragma once
// Keys that do what published systems did and a run of one's own should not. They are there so that those
// systems' scores can be reproduced, off by default, and all here, so that a reader can skip them
// (docs/recipes.md, "As published"). What they do is in the layer that a key belongs to.

#include <string>

#include "recipe/recipe_keys.h"

namespace fairway::pipeline::published {

/// Pull requests 414, 417, 518, 573. Their scripts compile the model before the switch of late QAT is set, so
/// that it never acts, though their logs say that it does (docs/spec/training.md section 11).
inline RecipeKey inert_qat() {
  return flag<&Recipe::qat, &QatConfig::inert>(
      "qat.inert", "the switch is logged and has no effect, as in the published scripts' training");
}

/// All of them. The text is cut to whole windows, and the last windows of a sliding score are shorter and
/// score the last `stride` targets again (docs/spec/evaluation.md section 3).
inline RecipeKey tail() {
  return choice<&Recipe::score, &ScoreConfig::tail>(
      "score.tail", "end of the text: each target once, or the last ones again as published scripts do");
}

/// Pull requests 518 and 573: virtual ranks own equal numbers of targets rather than whole windows, and what
/// is left at the end of a rank's part is never seen (docs/spec/ttt.md sections 5 and 6).
inline RecipeKey shards() {
  return choice<&Recipe::adapt, &adapt::Protocol::shards>(
      "adapt.shards",
      "virtual ranks own whole windows, or equal numbers of targets with dropped ends as pull requests 518 "
      "and 573");
}

/// Pull request 573: a pass that begins later in the text scores its beginning with weights that have seen
/// its end.
inline RecipeKey rotate() {
  return flag<&Recipe::adapt, &adapt::Protocol::rotate>(
      "adapt.rotate", "pass k starts at k/passes of the chunks and wraps around (not a code length)");
}

/// `minimum` is pull request 573's: for each target the best of the passes, chosen after it was seen.
inline RecipeKey combine() {
  return choice<&Recipe::adapt, &adapt::Protocol::combination>(
      "adapt.combine",
      "scores of several passes: fixed mixture of probabilities, or the best for each token (not a code "
      "length)");
}

}  // namespace fairway::pipeline::published
