#pragma once
// What tests/golden/train20 was made with.

#include "fairway/optim/optimizer.h"

namespace fairway::testing {

inline optim::OptimizerConfig train20_config() {
  optim::OptimizerConfig c;
  c.muon_momentum = {0.92, 0.99, 12};
  c.ns_precision = optim::Precision::f32;
  c.schedule = {optim::ScheduleKind::steps, 20, 0, 8};
  return c;
}

}  // namespace fairway::testing
