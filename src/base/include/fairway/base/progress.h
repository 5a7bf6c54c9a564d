#pragma once
// How long work tells its owner about itself. Libraries never print.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fairway::base {

/// One state of a long piece of work.
struct Progress {
  std::string_view task;            ///< what is being done: "train", "score"
  std::int64_t done = 0;            ///< in `unit`s
  std::int64_t total = 0;           ///< 0: unknown
  std::string_view unit = "";       ///< "step", "MB", "window"
  std::optional<double> rate;       ///< per second, in `rate_unit`
  std::string_view rate_unit = "";  ///< "tokens", "MB"
  std::optional<double> roofline;   ///< the rate as part of what the device could do at best
  std::optional<double> loss;       ///< nats per token
  std::optional<double> budget_left_seconds;
};

/// Receives progress and notes. Called from the thread that runs the work; must not throw.
class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  virtual void update(const Progress& progress) = 0;
  virtual void note(std::string_view line) = 0;     ///< one line worth keeping
  virtual void warning(std::string_view line) = 0;  ///< one line the user should see
};

/// Swallows everything.
class SilentProgress final : public ProgressSink {
 public:
  void update(const Progress&) override {}
  void note(std::string_view) override {}
  void warning(std::string_view) override {}
};

}  // namespace fairway::base
