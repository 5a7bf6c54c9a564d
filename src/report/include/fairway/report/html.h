#pragma once
// report.html: one file, no scripts, nothing loaded from elsewhere.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fairway/report/table.h"

namespace fairway::report {

/// One line of a chart.
struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< ascending x; points that are not finite are left out
};

struct Chart {
  std::string title, x_label, y_label;
  std::vector<Curve> curves;
};

/// A number worth seeing first.
struct Headline {
  std::string value, label;
  enum class Tone { plain, good, bad } tone = Tone::plain;
};

struct HtmlReport {
  std::string title, subtitle;
  std::vector<Headline> headlines;
  std::vector<Chart> charts;
  std::vector<Table> tables;
  std::string sample_prompt, sample;                            ///< generated text; any bytes
  std::vector<std::pair<std::string, std::string>> appendices;  ///< title, preformatted text (the recipe)
};

/// The whole page. All text is escaped; bytes that are not UTF-8 become U+FFFD.
std::string to_html(const HtmlReport& report);

/// The chart alone as an SVG element.
std::string to_svg(const Chart& chart);

/// Round numbers that cover [low, high], at most `count` + 1 of them.
std::vector<double> axis_ticks(double low, double high, int count);

}  // namespace fairway::report
