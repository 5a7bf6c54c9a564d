#include "fairway/adapt/protocol.h"

#include <cmath>
#include <numbers>

#include "fairway/base/error.h"

namespace fairway::adapt {

using base::fail_input;

void validate(const Protocol& p) {
  base::check(!p.phases.empty(), "a protocol without phases");
  if (p.when != When::train_then_score && p.phases.size() > 1)
    fail_input("adapt.then.epochs: a second phase needs adapt.when = \"before\"");
  if (p.when != When::score_first && (p.pass_lr.size() != 1 || p.rotate))
    fail_input("adapt.pass_lr, adapt.rotate: several passes need adapt.when = \"streaming\"");
  if (p.when != When::train_then_score && p.order != Order::natural)
    fail_input("adapt.order = \"permuted\": needs adapt.when = \"before\"; chunks are scored in order");
  if (p.order == Order::permuted && p.shards == Shards::targets)
    fail_input("adapt.order = \"permuted\": needs adapt.shards = \"windows\"");
  if (p.pass_lr.empty()) fail_input("adapt.pass_lr = []: name at least one pass");
  const bool several = p.pass_lr.size() > 1;
  if (several == (p.combination == score::Combination::single))
    fail_input("adapt.combine = \"{}\": {} pass(es) in adapt.pass_lr{}", base::name_of(p.combination),
               p.pass_lr.size(), several ? "; choose mixture (a code length) or minimum (not one)" : "");
  if (!p.mixture_weights.empty()) {
    if (p.combination != score::Combination::mixture || p.mixture_weights.size() != p.pass_lr.size())
      fail_input("adapt.mixture_weights: {} weights for {} pass(es) with adapt.combine = \"{}\"",
                 p.mixture_weights.size(), p.pass_lr.size(), base::name_of(p.combination));
    for (double w : p.mixture_weights)
      if (!(w > 0)) fail_input("adapt.mixture_weights: {} must be above 0", w);
  }
}

double lr_scale(Schedule schedule, const Position& at) {
  auto cosine = [](std::int64_t done, std::int64_t all) {
    const double x = static_cast<double>(done) / static_cast<double>(all);
    return 0.5 * (1.0 + std::cos(std::numbers::pi * x));
  };
  switch (schedule) {
    case Schedule::cosine_epoch:
      return cosine(at.epoch, at.epochs);
    case Schedule::cosine_pass:
      return cosine(at.index, at.count);
    case Schedule::cosine_steps:
      return cosine(at.step, at.steps);
    default:
      return 1.0;
  }
}

}  // namespace fairway::adapt
