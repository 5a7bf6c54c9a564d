#include "fairway/pipeline/sweep/sweep.h"

#include "fairway/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fairway::pipeline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kGood = R"(
name = "two"
base = "demo"
scale = "tiny"
seeds = [1, 2]
baseline = "plain"

[[variant]]
name = "long"
note = "a longer warm-down"
train.warmdown_steps = 400
model.xsa_layers = [4]
data.tokenizer = "pieces.model"

[[variant]]
name = "plain"
)";

std::string error_of(const std::string& text, const SweepOverrides& more = {}) {
  try {
    parse_sweep(text, "s.toml", "folder", more);
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::input) << error.what();
    return error.what();
  }
  return "";
}

std::string replaced(std::string from, std::string to) {
  std::string text = kGood;
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(SweepFile, ReadsVariantsAndResolvesTheirRecipes) {
  const auto sweep = parse_sweep(kGood, "s.toml", "folder");
  EXPECT_EQ(sweep.name, "two");
  EXPECT_EQ(sweep.metric, "score.sliding.loss");
  EXPECT_EQ(sweep.baseline, "plain");
  ASSERT_EQ(sweep.variants.size(), 2u);
  EXPECT_EQ(sweep.variants[0].note, "a longer warm-down");
  const auto cell = cell_recipe(sweep, sweep.variants[0], 2).recipe;
  EXPECT_EQ(cell.seed, 2);
  const auto plain = cell_recipe(sweep, sweep.variants[1], 1).recipe;
  const double full_steps = load_recipe("demo").recipe.train.steps;
  EXPECT_NEAR(cell.train.warmdown_steps, 400 * cell.train.steps / full_steps, 0.5)
      << "a variant's steps shrink with the scale";
  EXPECT_LT(plain.train.warmdown_steps, cell.train.warmdown_steps);
  EXPECT_THAT(cell.model.xsa_layers, ElementsAre(3)) << "and its layers keep their distance from the last";
  EXPECT_EQ(cell.data.tokenizer, std::filesystem::absolute("folder/pieces.model").string());
  EXPECT_EQ(changed_keys(cell, plain),
            (std::vector<std::string>{"seed", "model.vocab_size", "model.xsa_layers", "data.tokenizer",
                                      "train.warmdown_steps"}));
}

TEST(SweepFile, WhatTheCommandLineAddsHasTheLastWord) {
  SweepOverrides more;
  more.set = {"train.steps=7", "train.warmdown_steps=3"};
  more.scale = "small";
  more.seeds = {9};
  const auto sweep = parse_sweep(kGood, "s.toml", "folder", more);
  EXPECT_THAT(sweep.seeds, ElementsAre(9));
  const auto cell = cell_recipe(sweep, sweep.variants[0], 9, more).recipe;
  EXPECT_EQ(cell.train.steps, 7);
  EXPECT_EQ(cell.train.warmdown_steps, 3);
  EXPECT_EQ(cell.model.window, 256);
}

TEST(SweepFile, MistakesAreNamed) {
  EXPECT_EQ(error_of(kGood), "");
  EXPECT_THAT(error_of(replaced("seeds = [1, 2]", "seed = [1, 2]")),
              HasSubstr("s.toml:5:1: unknown key 'seed' of a sweep (did you mean 'seeds'?)"));
  EXPECT_THAT(
      error_of(replaced("train.warmdown_steps = 400", "train.warmdown_step = 400")),
      HasSubstr("unknown key 'train.warmdown_step' in a variant (did you mean 'train.warmdown_steps'?)"));
  EXPECT_THAT(error_of(replaced("train.warmdown_steps = 400", "train.warmdown_steps = -1")),
              HasSubstr("s.toml: variant 'long': --set train.warmdown_steps=-1"));
  EXPECT_THAT(error_of(replaced("train.warmdown_steps = 400", "seed = 4")),
              HasSubstr("unknown key 'seed' in a variant"));
  EXPECT_THAT(error_of(replaced("name = \"long\"", "name = \"plain\"")), HasSubstr("two variants 'plain'"));
  EXPECT_THAT(error_of(replaced("name = \"long\"", "name = \"../up\"")), HasSubstr("variant name '../up'"));
  EXPECT_THAT(error_of(replaced("name = \"long\"\n", "")), HasSubstr("variant name ''"));
  EXPECT_THAT(error_of(replaced("[1, 2]", "[1, 1]")), HasSubstr("seed 1 twice"));
  EXPECT_THAT(error_of(replaced("[1, 2]", "[]")), HasSubstr("names no seed"));
  EXPECT_THAT(error_of(replaced("[1, 2]", "[1, \"2\"]")), HasSubstr("seeds: expected a list of integers"));
  EXPECT_THAT(error_of(replaced("[1, 2]", "3")), HasSubstr("seeds: expected a list of integers"));
  EXPECT_THAT(error_of(replaced("baseline = \"plain\"", "baseline = \"plan\"")),
              HasSubstr("no variant of that name (did you mean 'plain'?)"));
  EXPECT_THAT(error_of(replaced("base = \"demo\"", "base = \"dem\"")), HasSubstr("no built-in recipe 'dem'"));
  EXPECT_THAT(error_of(replaced("scale = \"tiny\"", "scale = \"tin\"")), HasSubstr("--scale tin"));
  EXPECT_THAT(error_of("base = \"demo\"\n"), HasSubstr("the sweep is empty: add a [[variant]]"));
  EXPECT_THAT(error_of("variant = 3\n"), HasSubstr("expected tables [[variant]]"));
  EXPECT_THAT(error_of("variant = [3]\n"), HasSubstr("expected tables [[variant]]"));
  EXPECT_THAT(error_of("name = \n"), HasSubstr("s.toml:1:8: broken TOML"));
  SweepOverrides more;
  more.set = {"train.stepz=7"};
  EXPECT_THAT(error_of(kGood, more), HasSubstr("unknown key 'train.stepz'"));
}

TEST(SweepFile, TheShippedOnesAreValid) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FAIRWAY_SOURCE_DIR "/recipes/sweeps")) {
    const auto sweep = load_sweep(entry.path());
    EXPECT_GE(sweep.variants.size(), 2u) << entry.path();
    SweepOverrides tiny;
    tiny.scale = "tiny";
    EXPECT_NO_THROW(load_sweep(entry.path(), tiny)) << "and can be tried out";
    ++files;
  }
  EXPECT_GE(files, 1);
}

SweepCell cell(const char* variant, std::int64_t seed, double metric, const char* verdict = "valid") {
  SweepCell c;
  c.variant = variant;
  c.seed = seed;
  c.metric = metric;
  c.verdict = verdict;
  return c;
}

Sweep three_variants() {
  Sweep sweep;
  sweep.seeds = {1, 2, 3};
  sweep.baseline = "base";
  for (const char* name : {"base", "better", "little"}) {
    SweepVariant v;
    v.name = name;
    sweep.variants.push_back(v);
  }
  return sweep;
}

TEST(SweepRows, TheRecordRuleWantsSizeAndCertainty) {
  auto sweep = three_variants();
  std::vector<SweepCell> cells;
  for (int i = 0; i < 3; ++i) {
    const double noise = 0.0005 * (i - 1);
    cells.push_back(cell("base", i, 1.9 + noise));
    cells.push_back(cell("better", i, 1.89 + noise));
    cells.push_back(cell("little", i, 1.896 + noise));
  }
  auto rows = sweep_rows(sweep, cells);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_FALSE(rows[0].difference);
  EXPECT_FALSE(rows[0].record);
  EXPECT_NEAR(*rows[0].deviation, 0.0005, 1e-12);
  EXPECT_NEAR(*rows[1].difference, -0.01, 1e-12);
  // t = -0.01 / sqrt(2 * 0.0005^2 / 3) = -24.49 with 4 degrees of freedom.
  EXPECT_NEAR(*rows[1].t, -24.4949, 1e-3);
  EXPECT_NEAR(*rows[1].p, 1.65e-5, 2e-7);
  EXPECT_TRUE(rows[1].record);
  EXPECT_LT(*rows[1].record_p, 0.01);
  EXPECT_LT(*rows[2].p, 0.01) << "certain";
  EXPECT_FALSE(rows[2].record) << "but too little";
  EXPECT_GT(*rows[2].record_p, 0.5);

  cells[1].metric = *cells[1].metric - 0.2;  // large, but one run says it all
  EXPECT_FALSE(sweep_rows(sweep, cells)[1].record);
}

TEST(SweepRows, NoRecordWithoutACodeLengthOrWithoutRuns) {
  auto sweep = three_variants();
  std::vector<SweepCell> cells;
  for (int i = 0; i < 3; ++i) {
    cells.push_back(cell("base", i, 1.9 + 0.0005 * i));
    cells.push_back(cell("better", i, 1.5 + 0.0005 * i, i == 1 ? "not a code length: C3" : "valid"));
  }
  cells.push_back(cell("little", 1, 1.0));
  const auto rows = sweep_rows(sweep, cells);
  EXPECT_FALSE(rows[1].record);
  EXPECT_EQ(rows[1].verdict, "not a code length: C3");
  EXPECT_EQ(rows[2].runs, 1u);
  EXPECT_FALSE(rows[2].p);
  EXPECT_FALSE(rows[2].deviation);
  EXPECT_FALSE(rows[2].record);
  EXPECT_TRUE(rows[2].difference);
  SweepResult result;
  result.rows = rows;
  result.rows[1].verdict =
      "not a code length: C3 score before update: target 0; C4 single left-to-right pass: late; bytes of the "
      "text: 9 bytes counted, the text has 8";
  const auto text = sweep_text(sweep, result);
  EXPECT_THAT(text, testing::HasSubstr(" breaks C3, C4, bytes")) << "short in the table";
  EXPECT_THAT(text, testing::HasSubstr("C3 score before update: target 0; C4 single left-to-right pass: "
                                       "late; bytes of the text: 9 bytes counted, the text has 8"));
  const auto none = sweep_rows(sweep, {});
  EXPECT_FALSE(none[1].mean);
  EXPECT_EQ(none[1].verdict, "");
}

}  // namespace
}  // namespace fairway::pipeline
