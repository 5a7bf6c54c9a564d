#pragma once
// Progress for people: one line that stays in place on a terminal, plain lines every few seconds elsewhere.

#include <cstdio>
#include <functional>
#include <string>

#include "fairway/base/progress.h"

namespace fairway::report {

struct ProgressOptions {
  std::FILE* out = nullptr;          ///< where lines go; the caller chooses
  bool terminal = false;             ///< `out` understands carriage returns
  int width = 80;                    ///< columns of the terminal
  double line_seconds = 10;          ///< without a terminal: at most one line in so many seconds
  double redraw_seconds = 0.1;       ///< on a terminal
  bool quiet = false;                ///< warnings only
  bool times = false;                ///< each line begins with the time since the start: [0:01:05]
  std::function<double()> now = {};  ///< seconds of steady time; tests give their own
};

/// Terminal or not and its width, as `out` has it; lines of a log carry times.
ProgressOptions progress_options_for(std::FILE* out);

/// Writes to one stream; what cannot be written is left out. Not thread-safe.
class ProgressPrinter final : public base::ProgressSink {
 public:
  explicit ProgressPrinter(ProgressOptions options);
  ~ProgressPrinter() override;
  void update(const base::Progress& progress) override;
  void note(std::string_view line) override;
  void warning(std::string_view line) override;
  /// Ends the line in place, if there is one, so that other output can follow.
  void finish();

 private:
  void clear_line();
  void write_line(std::string_view line);
  void put(std::string_view text);
  ProgressOptions options_;
  double start_ = 0;       // when the printer was made
  std::string task_;       // the one shown now
  double task_start_ = 0;  // when it began, and with how much done before (a resumed run)
  std::int64_t first_done_ = 0;
  double last_shown_ = -1e9;
  bool line_open_ = false;
};

/// "train  [=====>    ]  120/400 step  34%  41.2k tokens/s  loss 3.141  left 1m05s  budget 2m03s", at most
/// `width` columns: when space is short the bar shrinks, then parts at the end go. `seconds_left` < 0:
/// unknown.
std::string render_bar(const base::Progress& progress, double seconds_left, int width);
/// The same without a bar.
std::string render_line(const base::Progress& progress, double seconds_left);

}  // namespace fairway::report
