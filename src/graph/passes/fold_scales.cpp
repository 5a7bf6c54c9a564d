#include "fairway/base/text.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/residual.h"
#include "passes.h"

#include <algorithm>

namespace fairway::graph::passes {
namespace {

/// A sum x + s . (h W^T): its step, that of the product.
struct Place {
  std::size_t sum = 0, product = 0;
  ValueId weight = absent, scale = absent;
};

/// The step `sum` as such a place; else why it is none.
std::string find(const Rewriter& r, const Graph& g, std::size_t sum, Place& place) {
  const auto& in = g.steps[sum].in;
  std::size_t product = 0;
  if (auto why = r.linear_before(in[1], "what the scale multiplies", product); !why.empty()) return why;
  const auto weight = g.steps[product].in[1];
  if (!r.is_compute_weight(weight)) return "the product's weight has no compute weight";
  if (!r.is_parameter(in[2]) ||
      g.at(in[2]).meta.shape.elements() != g.at(g.root(in[2])).meta.shape.elements())
    return "the scale is no parameter of its own";
  place = {sum, product, weight, in[2]};
  return {};
}

}  // namespace

void fold_scales(Rewriter& r) {
  auto& g = r.graph();
  std::vector<Place> places;
  for (std::size_t s = 0; s < g.steps.size(); ++s)
    if (Place place; r.as<ops::ScaledResidual>(s) && find(r, g, s, place).empty()) places.push_back(place);
  // A matrix that is read twice (a layer that runs twice) is folded everywhere or nowhere; so is its scale,
  // whose gradient comes from this matrix alone.
  const auto why_not = [&](const Place& place) -> std::string {
    const auto same = std::ranges::count_if(places, [&](const Place& other) {
      return g.root(other.weight) == g.root(place.weight) && g.root(other.scale) == g.root(place.scale);
    });
    if (same != static_cast<std::ptrdiff_t>(r.readers(place.weight).size()))
      return fmt::format("'{}' is read elsewhere without this scale", g.at(place.weight).name);
    if (same != static_cast<std::ptrdiff_t>(r.readers(place.scale).size()))
      return fmt::format("'{}' scales something else, too", g.at(place.scale).name);
    return {};
  };
  std::vector<std::string> reasons;
  for (const auto& place : places) reasons.push_back(why_not(place));
  r.at_each<ops::ScaledResidual>([&](std::size_t sum, const ops::ScaledResidual&) -> Rewriter::Verdict {
    const auto in = r.step(sum).in;
    if (r.meta(in[2]).shape.elements() != r.meta(in[0]).shape.columns()) return {};  // one scalar for all
    const auto found = std::ranges::find(places, sum, &Place::sum);
    if (Place none; found == places.end()) return find(r, g, sum, none);
    const auto& place = *found;
    if (const auto& why = reasons[static_cast<std::size_t>(found - places.begin())]; !why.empty()) return why;
    r.replace(sum, std::make_shared<const ops::LinearAdd>(),
              {r.step(place.product).in[0], place.weight, in[0]}, {r.step(sum).out[0]});
    r.remove(place.product);
    // The scale's gradient is made of its matrix's: cheaper than a pass over activations even where the
    // matrix itself is frozen.
    auto& weight = g.at(g.root(place.weight));
    weight.requires_grad = weight.requires_grad || r.requires_grad(place.scale);
    const Fold fold{weight.name, g.at(g.root(place.scale)).name, weight.requires_grad};
    if (std::ranges::find(g.folds, fold.weight, &Fold::weight) == g.folds.end()) g.folds.push_back(fold);
    return "";
  });
}

}  // namespace fairway::graph::passes
