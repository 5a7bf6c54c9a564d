#include "fairway/report/html.h"

#include <fmt/format.h>

#include <algorithm>

#include "fairway/base/text.h"
#include "html_style.h"

namespace fairway::report {
namespace {

/// Valid UTF-8: each bad byte becomes U+FFFD.
std::string repaired(std::string_view text) {
  std::string out;
  while (auto bad = base::invalid_utf8_at(text)) {
    out += text.substr(0, *bad);
    out += "\xEF\xBF\xBD";
    text.remove_prefix(*bad + 1);
  }
  return out += text;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : repaired(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\n':
      case '\t':
        out += c;
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          out += "\xEF\xBF\xBD";  // control characters may not stand in HTML
        } else {
          out += c;
        }
    }
  }
  return out;
}

std::string headlines(const HtmlReport& report) {
  if (report.headlines.empty()) return "";
  std::string out = "<ul class=\"heads\">\n";
  for (const auto& headline : report.headlines) {
    const char* tone = headline.tone == Headline::Tone::good  ? " class=\"good\""
                       : headline.tone == Headline::Tone::bad ? " class=\"bad\""
                                                              : "";
    out += fmt::format("<li{}><b>{}</b><span>{}</span></li>\n", tone, escaped(headline.value),
                       escaped(headline.label));
  }
  return out + "</ul>\n";
}

std::string table_html(const Table& table) {
  auto cell = [&](std::size_t column, const std::string& text, const char* tag) {
    const char* align = table.columns[column].align == Align::right ? " class=\"r\"" : "";
    return fmt::format("<{0}{1}>{2}</{0}>", tag, align, escaped(text));
  };
  std::string out =
      fmt::format("<h2>{}</h2>\n<div class=\"scroll\"><table><thead><tr>", escaped(table.title));
  for (std::size_t i = 0; i < table.columns.size(); ++i) out += cell(i, table.columns[i].title, "th");
  out += "</tr></thead><tbody>\n";
  const auto totals_from = table.rows.size() - std::min(table.total_rows, table.rows.size());
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    out += r >= totals_from ? "<tr class=\"total\">" : "<tr>";
    for (std::size_t i = 0; i < table.rows[r].size(); ++i) out += cell(i, table.rows[r][i], "td");
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string sample_html(const HtmlReport& report) {
  if (report.sample.empty()) return "";
  return fmt::format("<h2>Sample</h2>\n<blockquote><span class=\"prompt\">{}</span>{}</blockquote>\n",
                     escaped(report.sample_prompt), escaped(report.sample));
}

}  // namespace

std::string to_html(const HtmlReport& report) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{0}</title>\n"
      "<style>{1}</style></head>\n<body><main>\n<h1>{0}</h1>\n<p class=\"sub\">{2}</p>\n",
      escaped(report.title), kStyle, escaped(report.subtitle));
  out += headlines(report);
  for (const auto& chart : report.charts)
    out += fmt::format("<h2>{}</h2>\n{}", escaped(chart.title), to_svg(chart));
  for (const auto& table : report.tables) out += table_html(table);
  out += sample_html(report);
  for (const auto& [title, text] : report.appendices)
    out +=
        fmt::format("<details><summary>{}</summary><pre>{}</pre></details>\n", escaped(title), escaped(text));
  return out + "</main></body></html>\n";
}

}  // namespace fairway::report
