#include "fairway/ops/activation.h"
#include "passes.h"

#include <algorithm>
#include <functional>

namespace fairway::graph::passes {

void recompute_activations(Rewriter& r) {
  struct Place {
    std::size_t made, reader;  ///< the step that makes it, and the first of the backward that reads it
  };
  std::vector<Place> places;
  r.at_each<ops::LeakyReluSquared>([&](std::size_t s, const ops::LeakyReluSquared&) -> Rewriter::Verdict {
    const auto act = r.step(s).out[0];
    for (const auto reader : r.readers(act)) {
      const auto& in = r.step(reader).in;
      if (!r.step(reader).is_backward) continue;
      if (std::ranges::find(in, act) == in.end()) return "its backward reads it in another shape";
      places.push_back({s, reader});
      return "";
    }
    return {};
  });
  // From the last on: what is put in moves the steps behind it.
  std::ranges::sort(places, std::greater{}, &Place::reader);
  for (const auto& place : places) {
    auto again = r.step(place.made);
    const auto act = again.out[0];
    const auto fresh = r.add_value(r.meta(act));
    again.out[0] = fresh, again.is_backward = true;
    auto& steps = r.graph().steps;
    for (auto s = place.reader; s < steps.size(); ++s) std::ranges::replace(steps[s].in, act, fresh);
    steps.insert(steps.begin() + static_cast<std::ptrdiff_t>(place.reader), std::move(again));
  }
}

}  // namespace fairway::graph::passes
