// Test-time training of the built program: a run's artifact is adapted, scored and verified.
#include "e2e/e2e.h"

#include <gtest/gtest.h>

namespace fairway::test {
namespace {

/// [adapt] that fits the quick model; valid.
const Arguments kStreaming = {"--set", "adapt.when=streaming", "--set", "adapt.chunk_windows=2",
                              "--set", "adapt.lr=0.002",       "--set", "score.stride=32"};
const Arguments kBefore = {"--set", "adapt.when=before", "--set", "adapt.epochs=3",
                           "--set", "adapt.lr=0.002"};

Arguments with(Arguments command, const Arguments& more) {
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

class Adapting : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new Folder();
    ASSERT_FALSE(
        json_of(*folder_, quick({"run", "demo", "--out", "a"}, {"--set", "train.steps=30"})).is_null());
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static Folder* folder_;
};
Folder* Adapting::folder_ = nullptr;

TEST_F(Adapting, ScoreFirstIsValidAndVerified) {
  const auto adapted = json_of(*folder_, with({"adapt", "a", "--tokens", "3000"}, kStreaming));
  ASSERT_TRUE(adapted.contains("adapted"));
  const auto& score = adapted["adapted"]["sliding"];
  EXPECT_EQ(score["verdict"], "valid");
  EXPECT_EQ(score["tokens"], 3000);
  EXPECT_EQ(score["bytes"], adapted["score"]["sliding"]["bytes"]);
  // A young model learns from what it reads.
  EXPECT_LT(score["bits_per_byte"].get<double>(), adapted["score"]["sliding"]["bits_per_byte"].get<double>());

  const auto said = fairway(*folder_, with({"verify", "a", "--tokens", "1500", "--json"}, kStreaming));
  EXPECT_EQ(said.code, 0) << said.out << said.err;
  const auto report = Json::parse(said.out);
  EXPECT_EQ(report["ok"], true);
  EXPECT_EQ(report["checks"].size(), 8u) << report.dump(1);
}

TEST_F(Adapting, LearningTheTextFirstIsFoundOut) {
  const auto adapted = json_of(*folder_, with({"adapt", "a", "--tokens", "1500"}, kBefore));
  const auto verdict = adapted["adapted"]["sliding"]["verdict"].get<std::string>();
  EXPECT_THAT(verdict, ::testing::StartsWith("not a code length: C1"));
  EXPECT_THAT(verdict, ::testing::HasSubstr("C3 score before update"));

  const auto said = fairway(*folder_, with({"verify", "a", "--tokens", "1500"}, kBefore));
  EXPECT_EQ(said.code, 1) << said.out << said.err;
  EXPECT_THAT(said.out, ::testing::ContainsRegex("FAILED +flip test at target"));
  EXPECT_THAT(said.out, ::testing::ContainsRegex("ok +every target scored once"));
  EXPECT_THAT(said.out, ::testing::ContainsRegex("ok +counted bytes are at most the text's"));
}

TEST_F(Adapting, AnArtifactTakesARecipesProtocol) {
  const Arguments small = {"--set", "adapt.chunk_windows=2", "--set", "score.stride=32",
                           "--set", "score.rule=auto",       "--set", "score.tail=clean"};
  const auto adapted = json_of(*folder_, with({"adapt", "a/model.fairway", "--recipe", "streaming_min3_valid",
                                               "--text", kDemo, "--tokens", "1500"},
                                              small));
  EXPECT_EQ(adapted["adapted"]["sliding"]["verdict"], "valid");
  EXPECT_EQ(adapted["adapted"]["sliding"]["training"].size(), 2u);
}

TEST_F(Adapting, MistakesAreOneLine) {
  expect_input_error(fairway(*folder_, {"adapt", "a"}), "adapt.when = \"never\"");
  expect_input_error(fairway(*folder_, {"adapt", "a/model.fairway", "--set", "adapt.when=before"}), "--text");
  expect_input_error(fairway(*folder_, with({"adapt", "a", "--tokens", "100"}, kStreaming)),
                     "too few to adapt on");
  expect_input_error(
      fairway(*folder_, with({"adapt", "a", "--set", "adapt.train=[\"blocks.9.*\"]"}, kStreaming)),
      "'blocks.9.*' fits no parameter");
  expect_input_error(fairway(*folder_, {"verify", "nowhere"}), "nowhere");
}

TEST_F(Adapting, ARunAdaptsWhereItsRecipeSaysSo) {
  const auto result = json_of(*folder_, with(quick({"run", "demo", "--out", "b"}), kStreaming));
  EXPECT_EQ(result["adapted"]["sliding"]["verdict"], "valid");
  EXPECT_EQ(result["adapted"]["sliding"]["tokens"], result["score"]["sliding"]["tokens"]);
}

TEST_F(Adapting, ACountModelJoinsTheAdaptedScore) {
  const auto blended = with(kStreaming, {"--set", "score.ppm_weight=0.05"});
  const auto alone = json_of(*folder_, with({"adapt", "a", "--tokens", "1500"}, kStreaming));
  const auto adapted = json_of(*folder_, with({"adapt", "a", "--tokens", "1500"}, blended));
  for (const auto* which : {"score", "adapted"}) {
    EXPECT_NE(adapted[which]["sliding"]["nll"], alone[which]["sliding"]["nll"]) << which;
    EXPECT_THAT(adapted[which]["sliding"]["notes"].dump(), ::testing::HasSubstr("PPM-C")) << which;
  }
  const auto said = fairway(*folder_, with({"verify", "a", "--tokens", "1500"}, blended));
  EXPECT_EQ(said.code, 0) << said.out << said.err;
}

TEST_F(Adapting, AModelWithoutAdaptationIsVerifiedToo) {
  const auto said = fairway(*folder_, {"verify", "a", "--tokens", "1500"});
  EXPECT_EQ(said.code, 0) << said.out << said.err;
}

}  // namespace
}  // namespace fairway::test
