#include "fairway/report/fit.h"

#include <algorithm>
#include <vector>

#include "fairway/report/progress.h"

namespace fairway::report {
namespace {

constexpr std::size_t kNarrowest = 8;

/// The first `columns` code points.
std::string_view first_columns(std::string_view text, std::size_t columns) {
  std::size_t at = 0;
  for (; at < text.size(); ++at)
    if ((static_cast<unsigned char>(text[at]) & 0xC0) != 0x80 && columns-- == 0) break;
  return text.substr(0, at);
}

std::vector<std::size_t> widths_of(const Table& table) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    widths.push_back(display_width(table.columns[i].title));
    for (const auto& row : table.rows) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  return widths;
}

}  // namespace

std::size_t output_width(std::FILE* out) { return static_cast<std::size_t>(progress_options_for(out).width); }

void fit(Table& table, std::size_t width) {
  auto widths = widths_of(table);
  std::size_t total = widths.empty() ? 0 : 2 * (widths.size() - 1);
  for (const auto w : widths) total += w;
  for (; total > width; --total) {
    std::size_t* widest = nullptr;
    for (std::size_t i = 0; i < widths.size(); ++i)
      if (table.columns[i].align == Align::left && widths[i] > kNarrowest && (!widest || widths[i] > *widest))
        widest = &widths[i];
    if (!widest) break;
    --*widest;
  }
  for (auto& row : table.rows)
    for (std::size_t i = 0; i < row.size(); ++i)
      if (display_width(row[i]) > widths[i]) row[i] = std::string(first_columns(row[i], widths[i] - 1)) + "…";
}

std::string wrap(std::string_view line, std::size_t width) {
  std::string out;
  std::size_t used = 0;
  while (!line.empty()) {
    const auto word = line.substr(0, line.find(' '));
    line.remove_prefix(std::min(line.size(), word.size() + 1));
    const auto columns = display_width(word);
    if (used > 0) {
      const bool breaks = used + 1 + columns > width;
      out += breaks ? '\n' : ' ';
      used = breaks ? 0 : used + 1;
    }
    out += word;
    used += columns;
  }
  return out;
}

std::string short_shapes(std::string_view shapes) {
  std::string out;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (shapes[i] == '[' || shapes[i] == ']') continue;
    if (shapes.substr(i).starts_with(", ")) {
      out += 'x';
      ++i;
    } else {
      out += shapes[i];
    }
  }
  return out;
}

}  // namespace fairway::report
