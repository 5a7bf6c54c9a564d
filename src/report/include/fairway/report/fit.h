#pragma once
// Tables and lines that fit a terminal.

#include <cstdio>
#include <string>
#include <string_view>

#include "fairway/report/table.h"

namespace fairway::report {

/// Columns of the terminal that `out` is, 80 where it is none.
std::size_t output_width(std::FILE* out);

/// Shortens the cells of left-aligned columns, the widest first and none below 8 columns, until the table is
/// no wider than `width`; a shortened cell ends in "…". Numbers stay whole, so a table of many may stay
/// wider.
void fit(Table& table, std::size_t width);

/// Breaks a line at spaces so that none is wider than `width`, but for single words that are.
std::string wrap(std::string_view line, std::size_t width);

/// "[16, 256, 192] [384, 192] -" as "16x256x192 384x192 -".
std::string short_shapes(std::string_view shapes);

}  // namespace fairway::report
