#include "fairway/report/table.h"

#include <algorithm>

#include "fairway/base/error.h"

namespace fairway::report {

std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

namespace {

std::vector<std::size_t> column_widths(const Table& table) {
  std::vector<std::size_t> widths;
  for (const auto& column : table.columns) widths.push_back(display_width(column.title));
  for (const auto& row : table.rows) {
    base::check(row.size() == table.columns.size(), "table '{}': a row of {} cells under {} columns",
                table.title, row.size(), table.columns.size());
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  return widths;
}

std::string join(const Table& table, const std::vector<std::string>& cells,
                 const std::vector<std::size_t>& widths) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string padding(widths[i] - display_width(cells[i]), ' ');
    if (i > 0) line += "  ";
    line += table.columns[i].align == Align::right ? padding + cells[i] : cells[i] + padding;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + '\n';
}

}  // namespace

std::string to_text(const Table& table) {
  const auto widths = column_widths(table);
  std::vector<std::string> titles, dashes;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    titles.push_back(table.columns[i].title);
    dashes.emplace_back(widths[i], '-');
  }
  const auto rule = join(table, dashes, widths);
  std::string out = table.title.empty() ? "" : table.title + "\n";
  out += join(table, titles, widths) + rule;
  const auto totals_from = table.rows.size() - std::min(table.total_rows, table.rows.size());
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    if (i == totals_from && i > 0) out += rule;
    out += join(table, table.rows[i], widths);
  }
  return out;
}

}  // namespace fairway::report
