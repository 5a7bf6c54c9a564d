#pragma once
#include "fairway/base/clock.h"

#include <algorithm>

namespace fairway::pipeline {

/// When a run saves that names no steps for it (train.checkpoint_seconds): often enough that a kill costs
/// minutes, and for at most a hundredth of the time.
class SaveTimer {
 public:
  /// 0 seconds: never due.
  explicit SaveTimer(double seconds) : seconds_(seconds) {}
  void start() { since_.restart(); }
  bool due() const { return due_after(since_.seconds()); }
  bool due_after(double seconds) const {
    return seconds_ > 0 && seconds >= std::max(seconds_, 100 * last_cost_);
  }
  /// A save that took `cost` seconds is done.
  void saved(double cost) {
    last_cost_ = cost;
    since_.restart();
  }

 private:
  double seconds_, last_cost_ = 0;
  base::Stopwatch since_;
};

}  // namespace fairway::pipeline
