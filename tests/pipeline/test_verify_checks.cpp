// Each check of `verify` fails on a subject broken in just that way, and alone; and on whole subjects the
// checks that should fail do, with the exit code's `ok`.
#include "fairway/data/shard.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/stages/verify_checks.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

namespace fairway::pipeline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

/// What a good evaluation of 100 targets leaves.
struct Subject {
  Subject() {
    run.nll.resize(100);
    for (std::size_t i = 0; i < 100; ++i) run.nll[i] = 1.0f + static_cast<float>(i) / 64;
    changed = run.nll;
    for (std::size_t i = kFlip; i < 100; ++i) changed[i] = 5;
    run.learnt_committed = 64;
    run.audit = {1000, 9e-6};
    run.score.bytes = counted = 250;
    text.documents = {{0, 100}, {40, 150}};
    run.score.rule = "exact";
    order.resize(100);
    std::iota(order.begin(), order.end(), 0);
  }
  static constexpr std::uint64_t kFlip = 60;
  adapt::EvaluateResult run;
  std::int64_t counted = 0;
  score::TextReference text;
  std::vector<std::int64_t> order;
  std::vector<float> changed;
};

std::vector<std::string> failing(const Subject& s) {
  std::vector<std::string> names;
  for (const auto& check :
       {check_targets_once(s.run), check_score_before_update(s.run), check_conditions(s.run.score.verdict),
        check_distributions(s.run.audit, 48), check_bytes(s.run, s.counted, s.text),
        check_flip(s.order, Subject::kFlip, s.run.nll, s.changed)})
    if (!check.ok) names.push_back(check.name.substr(0, check.name.find(' ', 12)));
  return names;
}

TEST(VerifyChecks, EachFailsAloneOnASubjectBrokenInJustThatWay) {
  EXPECT_THAT(failing({}), IsEmpty());
  struct Broken {
    const char* how;
    std::function<void(Subject&)> change;
    const char* check;
  };
  auto flip = [](std::size_t at, float to) { return [=](Subject& s) { s.changed[at] = to; }; };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto& [how, change, check] : std::vector<Broken>{
           {"a target without a score", [](auto& s) { s.run.missing = 1; }, "every target"},
           {"a target scored twice", [](auto& s) { s.run.repeats = 1; }, "every target"},
           {"one missing, one twice", [](auto& s) { s.run.missing = s.run.repeats = 1; }, "every target"},
           {"learnt before its score", [](auto& s) { s.run.learnt_uncommitted = 1; }, "scores entered"},
           {"a condition broken", [](auto& s) { s.run.score.verdict.broken = {score::Condition::causal}; },
            "conditions C1"},
           {"one beside the bytes",
            [](auto& s) {
              s.run.score.verdict.broken = {score::Condition::single_pass, score::Condition::text_bytes};
            },
            "conditions C1"},
           {"sums just beyond what rounding does", [](auto& s) { s.run.audit.worst = 1.1e-5; },
            "distributions"},
           {"sums of nothing", [](auto& s) { s.run.audit = {}; }, "distributions"},
           {"sums that are not numbers", [](auto& s) { s.run.audit.worst = std::nan(""); }, "distributions"},
           {"a byte more in the score", [](auto& s) { ++s.run.score.bytes; }, "counted bytes"},
           {"a byte less in the score", [](auto& s) { --s.run.score.bytes; }, "counted bytes"},
           {"more than the text has", [](auto& s) { --s.text.documents[1].bytes; }, "counted bytes"},
           {"a side-car that says more than the tokens decode to",
            [](auto& s) {
              s.text.from = score::TextReference::From::side_car;
              s.text.decoded_bytes = s.run.score.bytes - 1;
            },
            "counted bytes"},
           {"the first score changed", flip(0, 9), "flip test at"},
           {"one in the middle", flip(30, 9), "flip test at"},
           {"the last before the flip", flip(59, 9), "flip test at"},
           {"by a bit", flip(59, std::nextafter(1.0f + 59.0f / 64, 2.0f)), "flip test at"},
           {"to no number", flip(7, nan), "flip test at"},
       }) {
    Subject s;
    change(s);
    EXPECT_THAT(failing(s), ElementsAre(::testing::StartsWith(check))) << how;
  }
}

TEST(VerifyChecks, APublishedTailMayScoreTargetsAgain) {
  Subject s;
  s.run.score.tail = score::Tail::published;
  s.run.repeats = 8;
  s.run.score.bytes += 30;
  EXPECT_THAT(failing(s), IsEmpty());
  s.run.missing = 1;
  EXPECT_THAT(failing(s), ElementsAre("every target"));
  s.run.missing = 0;
  ++s.counted;
  EXPECT_THAT(failing(s), ElementsAre("counted bytes")) << "each once they are more than the text's";
}

TEST(VerifyChecks, FewerBytesThanTheTextAreFineAndTheBytesAreNoneOfTheFour) {
  Subject s;
  s.text.documents[0].bytes += 10;
  s.run.score.verdict.broken = {score::Condition::text_bytes};
  EXPECT_THAT(failing(s), IsEmpty());
}

TEST(VerifyChecks, AFlipLooksInTheOrderOfEntering) {
  Subject s;
  std::reverse(s.order.begin(), s.order.end());  // 99 first
  s.changed = s.run.nll;
  for (std::size_t i = 0; i < 40; ++i) s.changed[i] = 5;  // the last 40 that were entered
  EXPECT_THAT(failing(s), IsEmpty());
  s.changed[40] = 5;
  const auto check = check_flip(s.order, Subject::kFlip, s.run.nll, s.changed);
  EXPECT_FALSE(check.ok);
  EXPECT_EQ(check.name, "flip test at target 39");
  EXPECT_THAT(check.figures, HasSubstr("1 of 60 scores before it changed, the first at target 40"));
  s.run.nll[50] = s.changed[50] = std::numeric_limits<float>::quiet_NaN();
  s.changed[40] = s.run.nll[40];
  EXPECT_TRUE(check_flip(s.order, Subject::kFlip, s.run.nll, s.changed).ok) << "never scored, either time";
}

/// A small model in a file and texts, for whole verifications.
class Verifying : public ::testing::Test {
 protected:
  Verifying() : engine(with_threads(2)) {
    recipe = small_recipe({"data.train_bytes=60000", "model.window=32", "score.stride=32",
                           "generate.tokens=0", "model.rope_rescale_length=0"});
    corpus.emplace(prepare_corpus(recipe, engine));
    auto model = fresh_model(recipe, corpus->tokenizer, engine);
    for (auto& v : model.weights->value("tok_emb.weight").span<float>()) v *= 60;
    pack(recipe, *model.weights, corpus->tokenizer, "{}", folder / "m.fairway", engine);
    base::write_file(folder / "t.txt", std::string_view(corpus->validation.text).substr(0, 900));
  }
  VerifyReport verified(std::vector<std::string> set, const std::string& text = "t.txt") {
    VerifyRequest request;
    request.subject = {folder / "m.fairway", {folder(text)}, "", std::move(set), 0};
    request.flips = 2;
    request.audit_windows = 3;
    return verify(request, engine);
  }
  static std::vector<std::string> failed(const VerifyReport& report) {
    std::vector<std::string> names;
    for (const auto& c : report.checks)
      if (!c.ok) names.push_back(c.name.substr(0, c.name.find(' ', 12)));
    return names;
  }
  Folder folder;
  Engine engine;
  Recipe recipe;
  std::optional<Corpus> corpus;
};

const std::vector<std::string> kStreaming = {"adapt.when=streaming", "adapt.chunk_windows=2",
                                             "adapt.lr=0.002"};

TEST_F(Verifying, AGoodSubjectPassesAllAndSaysSo) {
  for (const auto& set : {std::vector<std::string>{"adapt.when=never"}, kStreaming}) {
    const auto report = verified(set);
    EXPECT_TRUE(report.ok) << report.json;
    EXPECT_THAT(report.checks, SizeIs(7));
    EXPECT_EQ(nlohmann::json::parse(report.json)["ok"], true);
  }
}

TEST_F(Verifying, AShardThatBeginsInTheMiddleOfADocumentHasItsFirstTokenForContextOnly) {
  auto tokens = corpus->validation.tokens;
  tokens.erase(tokens.begin(), tokens.begin() + 5);
  tokens.resize(300);
  ASSERT_NE(tokens[0], corpus->tokenizer.bos_id());
  ASSERT_GT(corpus->tokenizer.decode(std::span<const std::uint16_t>(tokens).first(1)).size(), 0u);
  data::ShardWriter shard(folder / "s.bin");
  shard.write(tokens);
  shard.finish();
  const auto report = verified({"adapt.when=never"}, "s.bin");
  EXPECT_THAT(failed(report), IsEmpty()) << report.json;
  const auto score = nlohmann::json::parse(report.json)["sliding"];
  EXPECT_EQ(score["text_bytes"], score["bytes"]) << "the first token is no part of the text that is scored";
}

TEST_F(Verifying, LearningTheTextFirstFailsTheOrderTheConditionsAndTheFlips) {
  const auto report = verified({"adapt.when=before", "adapt.epochs=1", "adapt.lr=0.002"});
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(nlohmann::json::parse(report.json)["ok"], false);
  EXPECT_THAT(failed(report), ElementsAre("scores entered", "conditions C1", "flip test at", "flip test at"));
}

TEST_F(Verifying, ThePublishedTailIsJudgedByItsVerdict) {
  const auto report = verified({"adapt.when=never", "score.tail=published", "score.stride=8"});
  EXPECT_THAT(failed(report), IsEmpty()) << report.json;
}

}  // namespace
}  // namespace fairway::pipeline::testing
