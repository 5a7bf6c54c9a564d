#pragma once
// A result.json as people read it: tables for the terminal, the page for the browser. Keys that are missing
// are left out, so that every command's JSON can be shown.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "fairway/report/html.h"
#include "fairway/report/table.h"

namespace fairway::report {

/// Losses over steps, as the metrics log has them.
using LossCurve = std::vector<std::pair<double, double>>;

/// Scores: keys "raw", "averaged" and "score" of a run, or "plain" and "sliding" of `fairway score`, each an
/// object with loss, tokens, bytes, bits_per_byte, rule, verdict.
Table score_table(const nlohmann::ordered_json& result);
/// Parts of a size ledger (artifact::SizeLedger::to_json) and its totals against the limit.
Table ledger_table(const nlohmann::ordered_json& ledger);
/// General-purpose compressors on the same text, with our best valid score among them.
Table compressor_table(const nlohmann::ordered_json& result);
/// What the recipe's budgets allow and what was used (key "budget").
Table budget_table(const nlohmann::ordered_json& result);

/// Where the seconds went (key "stages").
Table stage_table(const nlohmann::ordered_json& result);

/// The tables that the result has, one under the other.
std::string result_text(const nlohmann::ordered_json& result);

/// The page of a run.
HtmlReport run_report(const nlohmann::ordered_json& result, const LossCurve& train,
                      const LossCurve& validation = {}, const std::string& recipe = "");
void write_html(const std::filesystem::path& path, const nlohmann::ordered_json& result,
                const LossCurve& train, const LossCurve& validation = {}, const std::string& recipe = "");

}  // namespace fairway::report
