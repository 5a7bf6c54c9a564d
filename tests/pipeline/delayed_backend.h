#pragma once
// A backend whose results come late, as a GPU's do: a step begins only when it is collected, so anybody who
// looks at weights or state while one is in flight sees too old ones (and fails here).

#include "fairway/base/error.h"
#include "fairway/pipeline/train/train_backend.h"

#include <deque>

namespace fairway::pipeline::testing {

class DelayedBackend final : public TrainBackend {
 public:
  DelayedBackend(std::unique_ptr<TrainBackend> inner, int depth) : inner_(std::move(inner)), depth_(depth) {}

  void submit(const data::BatchLoader& loader, const StepPlan& plan) override {
    base::check(static_cast<int>(queue_.size()) <= depth_, "{} steps in flight", queue_.size());
    queue_.emplace_back(loader, plan);
    deepest = std::max(deepest, static_cast<int>(queue_.size()));
  }
  StepOutcome collect() override {
    base::check(!queue_.empty(), "no step to collect");
    inner_->submit(queue_.front().first, queue_.front().second);
    queue_.pop_front();
    auto outcome = inner_->collect();
    outcome.roofline_seconds = roofline;
    return outcome;
  }
  int depth() const override { return depth_; }
  const TrainingModel& model() const override { return idle().model(); }
  optim::Optimizer& optimizer() override { return idle().optimizer(); }

  double roofline = 0;  ///< each step's least seconds
  int deepest = 0;      ///< most steps that were ever in flight

 private:
  TrainBackend& idle() const {
    base::check(queue_.empty(), "{} steps in flight", queue_.size());
    return *inner_;
  }
  std::unique_ptr<TrainBackend> inner_;
  int depth_;
  std::deque<std::pair<data::BatchLoader, StepPlan>> queue_;
};

}  // namespace fairway::pipeline::testing
