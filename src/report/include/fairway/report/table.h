#pragma once
// Tables for people, on a terminal and in a report.

#include <string>
#include <vector>

namespace fairway::report {

enum class Align { left, right };

struct Column {
  std::string title;
  Align align = Align::left;
};

/// Rows of text under titled columns; numbers are formatted by the caller (base::with_commas, human_bytes).
struct Table {
  std::string title;
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;
  std::size_t total_rows = 0;  ///< the last so many rows are totals, set apart from the others

  void add(std::vector<std::string> row) { rows.push_back(std::move(row)); }
};

/// Aligned columns, two spaces apart, a line under the titles and above the totals; no trailing blanks.
std::string to_text(const Table& table);

/// Columns that a string takes on a terminal: code points, not bytes. Invalid bytes count one each.
std::size_t display_width(std::string_view text);

}  // namespace fairway::report
