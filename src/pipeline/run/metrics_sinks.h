#pragma once
// Where a run's metrics go.

#include "fairway/pipeline/train/trainer.h"
#include "fairway/report/result.h"

namespace fairway::pipeline {

/// metrics.jsonl: a new log, or one that goes on after step `keep_until` (report::MetricsLog).
MetricsSink metrics_file(const std::filesystem::path& path, std::int64_t keep_until);

/// The report's curves.
struct LossCurves {
  void add(const StepMetrics& metrics);
  /// What was drawn before the run was stopped, from its metrics.jsonl.
  void read(const std::filesystem::path& path);
  report::LossCurve training, validation;
};

}  // namespace fairway::pipeline
