#pragma once
#include "rules/scalars.h"

namespace fairway::optim::rules {

/// SGD with momentum (docs/spec/ttt.md section 3): v <- momentum v + g;  p <- p - lr v. No Nesterov, no
/// dampening; the first step's v is g. When operations are rounded: v <- R(R(momentum v) + R(R(g) clip)).
template <Rounding R>
struct Sgd {
  static constexpr int moments = 1;
  static constexpr bool counts = false;
  static constexpr const char* names[] = {"momentum"};

  FAIRWAY_RULE static void apply(const Scalars& s, float clip, float& p, float g, float& v, float&) {
    const float gradient = result<R>(mul(result<R>(g), clip));
    v = stored<R>(add(result<R>(mul(s.momentum, v)), gradient));
    p = stored<R>(add(p, -mul(s.lr, v)));
  }
};

}  // namespace fairway::optim::rules
