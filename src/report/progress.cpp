#include "fairway/report/progress.h"

#include "fairway/base/error.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "fairway/base/text.h"
#include "fairway/report/table.h"

namespace fairway::report {
namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// 950, 41.2k, 1.30M
std::string short_number(double value) {
  if (value >= 1e9) return fmt::format("{:.2f}G", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.2f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f}k", value / 1e3);
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value);
}

double fraction(const base::Progress& p) {
  return p.total > 0 ? std::clamp(static_cast<double>(p.done) / static_cast<double>(p.total), 0.0, 1.0) : 0;
}

/// What follows the bar, most wanted first. `wide`: with what is only nice to know.
std::vector<std::string> parts(const base::Progress& p, double seconds_left, bool wide) {
  std::vector<std::string> out;
  out.push_back(p.total > 0 ? fmt::format("{}/{} {}", p.done, p.total, p.unit)
                            : fmt::format("{} {}", p.done, p.unit));
  if (p.loss) out.push_back(fmt::format("loss {:.4f}", *p.loss));
  if (seconds_left >= 0) out.push_back("left " + base::human_seconds(seconds_left));
  if (p.rate) out.push_back(fmt::format("{} {}/s", short_number(*p.rate), p.rate_unit));
  if (p.rate && p.roofline && wide)
    out.back() += fmt::format(" ({:.0f} % of the roofline)", 100 * *p.roofline);
  if (p.budget_left_seconds)
    out.push_back("budget " + base::human_seconds(std::max(0.0, *p.budget_left_seconds)));
  return out;
}

std::string bar(double done, int cells) {
  const int full = static_cast<int>(done * cells + 0.5);
  return "[" + std::string(static_cast<std::size_t>(full), '#') +
         std::string(static_cast<std::size_t>(cells - full), '.') + "]";
}

/// 0:01:05
std::string clock_text(double seconds) {
  const auto whole = static_cast<long long>(std::max(0.0, seconds));
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

ProgressOptions progress_options_for(std::FILE* out) {
  ProgressOptions options;
  options.out = out;
  const char* term = std::getenv("TERM");
  options.terminal = isatty(fileno(out)) == 1 && term != nullptr && std::string_view(term) != "dumb";
  winsize size{};
  if (options.terminal && ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    options.width = size.ws_col;
  options.times = !options.terminal;
  return options;
}

std::string render_line(const base::Progress& progress, double seconds_left) {
  std::string line{progress.task};
  for (const auto& part : parts(progress, seconds_left, true)) line += "  " + part;
  return line;
}

std::string render_bar(const base::Progress& progress, double seconds_left, int width) {
  constexpr int kLongest = 30, kShortest = 8;
  const auto limit =
      static_cast<std::size_t>(std::max(width - 1, 0));  // the last column would wrap on some terminals
  auto tail = parts(progress, seconds_left, true);
  auto tail_width = [&] {
    std::size_t sum = 0;
    for (const auto& part : tail) sum += 2 + display_width(part);
    return sum;
  };
  const std::size_t head = display_width(progress.task) + 2 + (progress.total > 0 ? 7 : 0);  // "[] 100%"
  if (head + kShortest + tail_width() > limit) tail = parts(progress, seconds_left, false);
  while (tail.size() > 1 && head + kShortest + tail_width() > limit) tail.pop_back();
  std::string line{progress.task};
  if (progress.total > 0) {
    const auto used = head + tail_width();
    const int room = used < limit ? static_cast<int>(std::min<std::size_t>(limit - used, kLongest)) : 0;
    if (room >= kShortest) line += "  " + bar(fraction(progress), room);
    line += fmt::format(" {:3.0f}%", 100 * fraction(progress));
  }
  for (const auto& part : tail) line += "  " + part;
  if (display_width(line) > limit) line.resize(std::min(line.size(), limit));
  return line;
}

ProgressPrinter::ProgressPrinter(ProgressOptions options) : options_(std::move(options)) {
  base::check(options_.out != nullptr, "a progress printer without a stream");
  if (!options_.now) options_.now = steady_seconds;
  start_ = options_.now();
}

ProgressPrinter::~ProgressPrinter() { finish(); }

void ProgressPrinter::update(const base::Progress& progress) {
  if (options_.quiet) return;
  const double now = options_.now();
  if (progress.task != task_) {
    finish();
    task_ = progress.task;
    task_start_ = now;
    first_done_ = progress.done;
    last_shown_ = -1e9;
  }
  const bool complete = progress.total > 0 && progress.done >= progress.total;
  const double interval = options_.terminal ? options_.redraw_seconds : options_.line_seconds;
  if (!complete && now - last_shown_ < interval) return;
  last_shown_ = now;

  double left = -1;
  if (const auto made = progress.done - first_done_; made > 0 && progress.total > 0)
    left =
        (now - task_start_) / static_cast<double>(made) * static_cast<double>(progress.total - progress.done);
  if (!options_.terminal) return write_line(render_line(progress, left));
  clear_line();
  put(render_bar(progress, left, options_.width));
  line_open_ = true;
  if (complete) finish();
}

void ProgressPrinter::note(std::string_view line) {
  if (options_.quiet) return;
  clear_line();
  write_line(line);
}

void ProgressPrinter::warning(std::string_view line) {
  clear_line();
  write_line(fmt::format("warning: {}", line));
}

void ProgressPrinter::finish() {
  if (line_open_) put("\n");
  line_open_ = false;
  task_.clear();
}

void ProgressPrinter::clear_line() {
  // Return, then erase to the end: what was longer leaves nothing behind.
  if (options_.terminal) put("\r\033[K");
  line_open_ = false;
}

void ProgressPrinter::write_line(std::string_view line) {
  put((options_.times ? fmt::format("[{}] ", clock_text(options_.now() - start_)) : "") + std::string(line) +
      "\n");
}

void ProgressPrinter::put(std::string_view text) {
  // A stream that is full, closed or a broken pipe stops no work; it may take the next line.
  if (std::fwrite(text.data(), 1, text.size(), options_.out) != text.size() || std::fflush(options_.out) != 0)
    std::clearerr(options_.out);
}

}  // namespace fairway::report
