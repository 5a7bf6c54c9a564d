#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "fairway/report/html.h"

namespace fairway::report {
namespace {

constexpr double kWidth = 860, kHeight = 300;
constexpr double kLeft = 52, kRight = 12, kTop = 26, kBottom = 40;
constexpr std::size_t kMostPoints = 1200;  // more than there are pixels
constexpr int kColours = 4;

struct Axis {
  double low = 0, high = 1;
  std::vector<double> ticks;
};

bool finite(const std::pair<double, double>& p) { return std::isfinite(p.first) && std::isfinite(p.second); }

Axis axis_over(const Chart& chart, double std::pair<double, double>::*member, int ticks) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& curve : chart.curves) {
    for (const auto& point : curve.points) {
      if (!finite(point)) continue;
      low = std::min(low, point.*member);
      high = std::max(high, point.*member);
    }
  }
  if (low > high) low = 0, high = 1;
  if (low == high) low -= 0.5, high += 0.5;
  Axis axis{low, high, axis_ticks(low, high, ticks)};
  axis.low = std::min(axis.low, axis.ticks.front());
  axis.high = std::max(axis.high, axis.ticks.back());
  return axis;
}

std::string tick_text(double value) {
  if (std::abs(value) >= 10'000) return fmt::format("{:g}k", value / 1000);
  return fmt::format("{:.4g}", std::abs(value) < 1e-12 ? 0.0 : value);
}

std::string text_at(double x, double y, const char* anchor, std::string_view text) {
  std::string safe;
  for (char c : text) safe += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor, safe);
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, int count) {
  const double rough = (high - low) / std::max(count, 1);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power < rough) continue;
    step = factor * power;
    break;
  }
  std::vector<double> ticks;
  const auto first = static_cast<std::int64_t>(std::ceil(low / step - 1e-9));
  const auto last = static_cast<std::int64_t>(std::floor(high / step + 1e-9));
  for (auto i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  if (ticks.empty()) ticks.push_back(low);
  return ticks;
}

std::string to_svg(const Chart& chart) {
  const auto x = axis_over(chart, &std::pair<double, double>::first, 8);
  const auto y = axis_over(chart, &std::pair<double, double>::second, 5);
  auto px = [&](double v) { return kLeft + (v - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight); };
  auto py = [&](double v) {
    return kHeight - kBottom - (v - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  };

  std::string out = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{} over {}\">\n",
                                kWidth, kHeight, chart.y_label, chart.x_label);
  for (double tick : y.ticks) {
    out += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>\n", kLeft,
                       kWidth - kRight, py(tick), py(tick));
    out += text_at(kLeft - 6, py(tick) + 4, "end", tick_text(tick));
  }
  for (double tick : x.ticks) out += text_at(px(tick), kHeight - kBottom + 18, "middle", tick_text(tick));
  out += text_at((kLeft + kWidth - kRight) / 2, kHeight - 4, "middle", chart.x_label);
  out += text_at(kLeft - 40, 14, "start", chart.y_label);

  double legend = kWidth - kRight;
  for (std::size_t i = chart.curves.size(); i-- > 0;) {
    const auto& curve = chart.curves[i];
    const auto colour = fmt::format("var(--c{})", i % kColours);
    std::string points;
    const auto every = std::max<std::size_t>(1, curve.points.size() / kMostPoints);
    for (std::size_t k = 0; k < curve.points.size(); ++k) {
      if ((k % every != 0 && k + 1 != curve.points.size()) || !finite(curve.points[k])) continue;
      points += fmt::format("{:.1f},{:.1f} ", px(curve.points[k].first), py(curve.points[k].second));
    }
    out += fmt::format("<polyline class=\"curve\" style=\"stroke:{}\" points=\"{}\"/>\n", colour, points);
    out += fmt::format("<g style=\"--soft:{}\">{}</g>", colour, text_at(legend, 14, "end", curve.name));
    legend -= 8.0 * static_cast<double>(display_width(curve.name)) + 16;
  }
  return out + "</svg>\n";
}

}  // namespace fairway::report
