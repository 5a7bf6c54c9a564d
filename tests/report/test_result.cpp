#include "fairway/report/result.h"

#include <gmock/gmock.h>

namespace fairway::report {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::ordered_json;

Json run_result() {
  return Json::parse(R"({
    "name": "demo", "build": "fairway 0.1.0", "device": "cpu", "isa": "avx2", "seed": 1337,
    "train": {"steps": 400, "loss": 3.5, "seconds": 171.2, "tokens_per_second": 9571.4, "parameters": 1998211},
    "memory": {"parameters": 7992844}, "peak_memory_bytes": 209715200,
    "raw": {"plain": {"loss": 3.6, "tokens": 20000, "bytes": 57000, "bits_per_byte": 1.9, "rule": "exact",
                      "verdict": "valid", "window": 256, "stride": 256}},
    "artifact": {"file_bytes": 1500000, "tokenizer_bytes": 20000, "code_bytes": 150000, "challenge_bytes": 1630000,
                 "self_contained_bytes": 1650000, "limit": 16000000, "fits": true,
                 "parts": [{"name": "weights/blocks.*.mlp", "kind": "int6", "tensors": 10, "raw_bytes": 2000000,
                            "stored_bytes": 1480000}, {"name": "tokenizer", "kind": "", "tensors": 0,
                            "raw_bytes": 30000, "stored_bytes": 20000}]},
    "score": {"plain": {"loss": 3.61, "tokens": 20000, "bytes": 57000, "bits_per_byte": 1.91, "rule": "exact",
                        "verdict": "valid", "window": 256, "stride": 256},
              "sliding": {"loss": 3.5, "tokens": 20000, "bytes": 57000, "bits_per_byte": 1.85, "rule": "exact",
                          "verdict": "valid", "window": 256, "stride": 64},
              "peeking": {"loss": 1, "tokens": 20000, "bytes": 57000, "bits_per_byte": 0.5, "rule": "exact",
                          "verdict": "not a code length: C3 score before update"}},
    "compressors": [{"name": "xz -9e", "bytes": 20000, "bits_per_byte": 2.81, "note": ""}],
    "sample": {"prompt": "The Mole", "text": " had <been>"}
  })");
}

TEST(Result, TablesHoldTheNumbers) {
  const auto text = result_text(run_result());
  EXPECT_THAT(text, HasSubstr("artifact, sliding          1.8500  3.5000  20,000  57,000  256 every 64"));
  EXPECT_THAT(text, HasSubstr("raw weights, plain         1.9000"));
  EXPECT_THAT(text, HasSubstr("not a code length: C3 score before update"));
  EXPECT_THAT(text, HasSubstr("challenge bytes (weights and code)"));
  EXPECT_THAT(text, HasSubstr("1,630,000"));
  EXPECT_THAT(text, HasSubstr("peak of the process  200.0 MiB"));
  EXPECT_THAT(text, HasSubstr("The Mole had <been>"));
}

TEST(Result, WindowsThatFollowDocumentsAreNamed) {
  auto result = run_result();
  result["score"]["plain"]["by_documents"] = true;
  const auto text = result_text(result);
  EXPECT_THAT(text, HasSubstr("256 by documents"));
  EXPECT_THAT(text, HasSubstr("256 every 64"));
}

TEST(Result, WhereTheSecondsWentAndWhatWasReadTwice) {
  auto result = run_result();
  EXPECT_THAT(result_text(result), Not(HasSubstr("Time\n")));
  result["stages"] =
      Json::parse(R"([{"stage": "training", "seconds": 30.04}, {"stage": "other", "seconds": 87}])");
  result["data"]["notes"] = {"data.train: one file is read twice: a.txt"};
  const auto text = result_text(result);
  EXPECT_THAT(text, HasSubstr("Time\n"
                              "stage     seconds\n"
                              "--------  -------\n"
                              "training     30.0\n"
                              "other        87.0\n"
                              "--------  -------\n"
                              "all         117.0\n"));
  EXPECT_THAT(text, testing::StartsWith("Warning: data.train: one file is read twice: a.txt\n\nScores\n"));
  const auto page = to_html(run_report(result, {}, {}, ""));
  for (const auto* part : {"one file is read twice: a.txt", "<td>training</td>"})
    EXPECT_THAT(page, HasSubstr(part));
}

TEST(Result, TheRooflineStandsBesideTheRateWhereItIsKnown) {
  auto result = run_result();
  EXPECT_THAT(to_html(run_report(result, {}, {}, "")), Not(HasSubstr("roofline")));
  result["train"]["roofline"] = 0.714;
  EXPECT_THAT(to_html(run_report(result, {}, {}, "")), HasSubstr("tokens per second, 71 % of the roofline"));
}

TEST(Result, OnlyValidScoresStandBesideTheCompressors) {
  const auto table = compressor_table(run_result());
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows.back()[1], "1.8500") << "not the 0.5 that is no code length";
  const auto page = to_html(run_report(run_result(), {{1, 7}, {400, 3.5}}, {{400, 3.6}}, "seed = 1337"));
  EXPECT_THAT(page, HasSubstr("<b>1.8500</b>"));
  EXPECT_THAT(page, HasSubstr("<summary>Recipe</summary>"));
  EXPECT_THAT(page, HasSubstr("had &lt;been&gt;"));
  EXPECT_THAT(page, HasSubstr("</svg>"));
}

TEST(Result, AnAdaptedScoreStandsOnlyWhereItIsValid) {
  auto result = run_result();
  auto adapted = result["score"]["sliding"];
  adapted["bits_per_byte"] = 1.7;
  result["adapted"]["sliding"] = adapted;
  EXPECT_THAT(result_text(result), ContainsRegex("adapted artifact, sliding +1\\.7000"));
  EXPECT_EQ(compressor_table(result).rows.back()[1], "1.7000");
  result["adapted"]["sliding"]["verdict"] = "not a code length: C1 strict causal dependence";
  EXPECT_EQ(compressor_table(result).rows.back()[1], "1.8500");
}

TEST(Result, OnlyAnArtifactBeyondItsLimitIsShownAsBad) {
  using Tone = Headline::Tone;
  const auto tone = [](const Json& result, std::string_view label) {
    for (const auto& headline : run_report(result, {}, {}, "").headlines)
      if (headline.label == label) return headline.tone;
    ADD_FAILURE() << "no headline '" << label << "'";
    return Tone::plain;
  };
  auto result = run_result();
  EXPECT_EQ(tone(result, "bytes of weights and code"), Tone::plain);
  EXPECT_EQ(tone(result, "bits per byte, held-out text"), Tone::good);
  EXPECT_EQ(tone(result, "parameters"), Tone::plain);
  result["artifact"]["fits"] = false;
  EXPECT_EQ(tone(result, "bytes of weights and code"), Tone::bad);
  result["artifact"].erase("fits");
  EXPECT_EQ(tone(result, "bytes of weights and code"), Tone::plain) << "no limit is known";
}

TEST(Result, BudgetsThatWereNotKeptAreSaidToBeOver) {
  const auto table = budget_table(Json::parse(R"({"budget": {
    "bytes": {"used": 1500.4, "allowed": 16000, "ok": true},
    "seconds": {"used": 700, "allowed": 600, "forecast": 650, "ok": false},
    "tokens": {"used": 7}}})"));
  EXPECT_EQ(table.rows, (std::vector<std::vector<std::string>>{{"bytes", "1,500", "16,000", "", ""},
                                                               {"seconds", "700", "600", "650", "over"}}))
      << "what has no limit is no budget";
}

TEST(Result, WhatIsMissingIsLeftOut) {
  EXPECT_EQ(result_text(Json::object()), "");
  EXPECT_EQ(result_text(Json::parse("[1]")), "");
  const auto page = to_html(run_report(Json::object(), {}));
  EXPECT_THAT(page, Not(HasSubstr("<svg")));
  EXPECT_THAT(page, Not(HasSubstr("<table")));
  // The JSON of `fairway score` and of a ledger alone.
  EXPECT_THAT(result_text({{"plain", run_result()["score"]["plain"]}}), HasSubstr("plain"));
  EXPECT_THAT(result_text(run_result()["artifact"]), HasSubstr("self-contained bytes"));
}

}  // namespace
}  // namespace fairway::report
