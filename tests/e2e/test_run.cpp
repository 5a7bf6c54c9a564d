// `fairway run` from text to score, and that a run's bits depend on recipe and seed alone.
#include "e2e.h"
#include "fairway/artifact/artifact.h"

#include <cmath>
#include <fstream>
#include <map>

namespace fairway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

void check_score(const Json& s, int vocab_size) {
  for (const char* key : {"loss", "tokens", "bytes", "bits_per_byte", "rule", "verdict"})
    ASSERT_TRUE(s.contains(key)) << key;
  EXPECT_EQ(s["verdict"], "valid");
  EXPECT_EQ(s["rule"], "exact");
  const auto tokens = s["tokens"].get<double>(), bytes = s["bytes"].get<double>();
  EXPECT_NEAR(s["bits_per_byte"].get<double>(), s["loss"].get<double>() / std::log(2.0) * tokens / bytes,
              1e-9);
  EXPECT_LT(s["loss"].get<double>(), std::log(vocab_size) - 1) << "better than knowing nothing";
}

TEST(Run, TheTinyDemoEndToEnd) {
  Folder folder;
  // All held-out text, so that the bytes can be counted from outside.
  const auto result = json_of(
      folder, {"run", "--scale", "tiny", "--out", "X", "--set", "score.tokens=0", "--set", "quant.level=3"});
  for (const char* file : {"recipe.toml", "metrics.jsonl", "checkpoint.fwck", "model.fairway", "sample.txt",
                           "result.json", "report.html"})
    EXPECT_GT(std::filesystem::file_size(folder / (std::string("X/") + file)), 0u) << file;
  EXPECT_EQ(Json::parse(base::read_text_file(folder / "X/result.json")), result) << "--json prints the file";

  const auto& plain = result["score"]["plain"];
  const auto& sliding = result["score"]["sliding"];
  for (const auto* s : {&plain, &sliding, &result["raw"]["plain"], &result["averaged"]["plain"]}) {
    check_score(*s, 512);
    EXPECT_EQ((*s)["bytes"], result["data"]["validation"]["text_bytes"]);
    EXPECT_EQ((*s)["tokens"].get<int>(), result["data"]["validation"]["tokens"].get<int>() - 1);
  }
  EXPECT_LT(sliding["loss"].get<double>(), plain["loss"].get<double>() + 0.01) << "more context helps";
  EXPECT_NEAR(plain["loss"].get<double>(), result["averaged"]["plain"]["loss"].get<double>(), 0.15)
      << "what six bits cost";
  EXPECT_EQ(result["data"]["train"]["text_bytes"].get<int>() + plain["bytes"].get<int>(),
            result["data"]["sources"][0]["text_bytes"].get<int>());

  EXPECT_EQ(result["artifact"]["file_bytes"], std::filesystem::file_size(folder / "X/model.fairway"));
  EXPECT_TRUE(result["artifact"]["fits"]);
  EXPECT_GT(result["artifact"]["code_bytes"].get<int>(), 0);
  EXPECT_EQ(artifact::read_artifact(folder / "X/model.fairway").provenance.seed, 1337u);
  EXPECT_GT(result["sample"]["text"].get<std::string>().size(), 20u);
  EXPECT_THAT(base::read_text_file(folder / "X/sample.txt"),
              HasSubstr(result["sample"]["text"].get<std::string>()));

  std::map<std::string, double> others;
  for (const auto& c : result["compressors"]) {
    others[c["name"]] = c["bits_per_byte"];
    EXPECT_NEAR(c["bits_per_byte"].get<double>(), 8 * c["bytes"].get<double>() / plain["bytes"].get<double>(),
                1e-9)
        << "over the text that was scored";
  }
  EXPECT_EQ(others.size(), 4u);
  EXPECT_LT(others["zstd -22 --ultra, trained dictionary"], others["zstd -22 --ultra"]);
  EXPECT_GT(others["xz -9e"], 1.5);

  std::ifstream metrics(folder / "X/metrics.jsonl");
  int step = 0;
  for (std::string line; std::getline(metrics, line);) EXPECT_EQ(Json::parse(line)["step"], ++step);
  EXPECT_EQ(step, 40);
  EXPECT_THAT(base::read_text_file(folder / "X/report.html"), AllOf(HasSubstr("<svg"), HasSubstr("xz -9e")));
  EXPECT_THAT(base::read_text_file(folder / "X/recipe.toml"),
              HasSubstr("steps = 40  # 350 before --scale tiny"));
}

TEST(Run, AScoreOfPartOfTheTextIsComparedOnThatPart) {
  Folder folder;
  const auto result = json_of(folder, quick({"run", "--out", "X"}));
  const auto bytes = result["score"]["plain"]["bytes"].get<double>();
  ASSERT_LT(bytes, result["data"]["validation"]["text_bytes"].get<double>());
  for (const auto& c : result["compressors"])
    EXPECT_NEAR(c["bits_per_byte"].get<double>(), 8 * c["bytes"].get<double>() / bytes, 1e-9) << c["name"];
}

TEST(Run, ASampleThatIsNotTextSpoilsNothing) {
  Folder folder;
  // Hot enough to draw byte pieces that form no character.
  const auto result =
      json_of(folder, quick({"run", "--out", "X"}, {"--set", "generate.temperature=90", "--set",
                                                    "generate.top_k=0", "--set", "generate.tokens=300"}));
  EXPECT_THAT(result["sample"]["text"].get<std::string>(), HasSubstr("\xef\xbf\xbd"));
  EXPECT_EQ(json_of(folder, quick({"run", "--out", "X", "--resume"},
                                  {"--set", "generate.temperature=90", "--set", "generate.top_k=0", "--set",
                                   "generate.tokens=300"})),
            result);
}

TEST(Run, SeedAndRecipeDecideTheBytes) {
  Folder folder;
  for (const auto& [out, more] : std::map<std::string, Arguments>{{"one", {"--threads", "1"}},
                                                                  {"two", {"--threads", "2"}},
                                                                  {"again", {"--threads", "2"}},
                                                                  {"three", {"--threads", "3"}},
                                                                  {"seed", {"--seed", "7"}}}) {
    auto arguments = quick({"run", "--out", out}, more);
    const auto result = json_of(folder, arguments);
    if (more[0] == "--threads") {
      EXPECT_EQ(std::to_string(result["threads"].get<int>()), more[1]);
    }
  }
  const auto expected = artifact_of(folder, "one");
  EXPECT_EQ(artifact_of(folder, "two"), expected);
  EXPECT_EQ(artifact_of(folder, "again"), expected);
  EXPECT_EQ(artifact_of(folder, "three"), expected);
  EXPECT_NE(artifact_of(folder, "seed"), expected);
  const auto score = [&](const char* run) {
    return Json::parse(
        base::read_text_file(folder / (std::string(run) + "/result.json")))["score"]["sliding"]["nll"];
  };
  EXPECT_EQ(score("one"), score("three"));
}

TEST(Run, TheFolderDoesNotMatterEither) {
  Folder a, b;
  json_of(a, quick({"run", "--out", "x"}));
  json_of(b, quick({"run", "--out", "somewhere/else"}));
  EXPECT_EQ(artifact_of(a, "x"), artifact_of(b, "somewhere/else"));
}

TEST(Run, TheMemoryPlanIsSaidBeforeTheFirstStep) {
  Folder folder;
  const auto said = fairway(folder, {"train", "--scale", "tiny", "--device", "cpu", "--out", "x", "--set",
                                     "train.steps=1", "--set", "train.validate_every=0"});
  ASSERT_EQ(said.code, 0) << said.err;
  const auto plan = said.err.find("memory on cpu: "), step = said.err.find("1/1 step");
  ASSERT_NE(plan, std::string::npos) << said.err;
  EXPECT_LT(plan, step);
  EXPECT_THAT(said.err, HasSubstr(", optimiser and averages "));
}

}  // namespace
}  // namespace fairway::test
