#include "run/metrics_sinks.h"

#include "fairway/report/metrics.h"

#include <memory>

namespace fairway::pipeline {

MetricsSink metrics_file(const std::filesystem::path& path, std::int64_t keep_until) {
  return [log = std::make_shared<report::MetricsLog>(path, keep_until)](const StepMetrics& m) {
    nlohmann::ordered_json line = {
        {"step", m.step},         {"loss", m.loss},       {"gradient_norm", m.gradient_norm},
        {"lr_scale", m.lr_scale}, {"seconds", m.seconds}, {"tokens_per_second", m.tokens_per_second}};
    if (m.roofline) line["roofline"] = *m.roofline;
    if (m.fake_quantised) line["fake_quantised"] = true;
    if (m.validation_loss) line["validation_loss"] = *m.validation_loss;
    log->append(line);
  };
}

void LossCurves::add(const StepMetrics& m) {
  const auto step = static_cast<double>(m.step);
  training.push_back({step, m.loss});
  if (m.validation_loss) validation.push_back({step, *m.validation_loss});
}

void LossCurves::read(const std::filesystem::path& path) {
  for (const auto& line : report::read_metrics(path)) {
    StepMetrics m;
    m.step = line.value("step", std::int64_t{0});
    m.loss = line.value("loss", 0.0);
    if (line.contains("validation_loss")) m.validation_loss = line["validation_loss"].get<double>();
    add(m);
  }
}

}  // namespace fairway::pipeline
