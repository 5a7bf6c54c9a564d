// Whole runs of the demo at its smallest: same bytes for any number of threads, stop and go on, used folders.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "program.h"

namespace fairway::test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<std::string> run_arguments(const std::string& out, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"run", "demo", "--scale", "tiny", "--out", out};
  for (const char* set :
       {"train.steps=12", "data.train_bytes=300000", "score.tokens=2048", "generate.tokens=8"})
    arguments.insert(arguments.end(), {"--set", set});
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Run, EndsWithAnArtifactItsScoreAndAReport) {
  Folder folder;
  const auto one = fairway(folder, run_arguments("one", {"--threads", "1", "--json"}));
  ASSERT_EQ(one.code, 0) << one.err;
  const auto result = Json::parse(one.out);
  EXPECT_EQ(result["score"]["plain"]["verdict"], "valid");
  EXPECT_GT(result["score"]["sliding"]["bits_per_byte"].get<double>(), 0.5);
  EXPECT_EQ(result["train"]["steps"], 12);
  EXPECT_EQ(result["stages"][0]["stage"], "reading and tokenising");
  EXPECT_THAT(base::read_text_file(folder / "one/report.html"), HasSubstr("<td>training</td>"));
  EXPECT_THAT(one.err, ::testing::ContainsRegex("\\[0:00:[0-9][0-9]\\] training [0-9]+ parameters"))
      << "lines of a log carry the time";
  for (const char* file : {"recipe.toml", "metrics.jsonl", "checkpoint.fwck", "model.fairway", "sample.txt",
                           "result.json", "report.html"})
    EXPECT_TRUE(std::filesystem::exists(folder / (std::string("one/") + file))) << file;
  EXPECT_THAT(base::read_text_file(folder / "one/report.html"), HasSubstr("<svg"));

  ASSERT_EQ(fairway(folder, run_arguments("two", {"--threads", "2"})).code, 0);
  EXPECT_EQ(base::read_text_file(folder / "one/model.fairway"),
            base::read_text_file(folder / "two/model.fairway"))
      << "the number of threads changed the artifact";

  // The folder stands for its model; texts come from standard input; what is streamed is what the JSON holds.
  std::string text;
  for (int i = 0; i < 9; ++i) text += "{\"text\": \"The river ran on, and the mole ran beside it.\"}\n";
  text += "no json\n";
  const auto scored =
      fairway(folder, {"score", "--skip-bad-lines", "--text", "-", "one", "--stride", "0", "--json"}, text);
  ASSERT_EQ(scored.code, 0) << scored.err;
  EXPECT_EQ(Json::parse(scored.out)["plain"]["bytes"], 9 * 45);
  EXPECT_THAT(scored.err, HasSubstr("1 bad line skipped; the first: standard input: line 10: bad JSON"));
  EXPECT_EQ(fairway(folder, {"inspect", "one"}).code, 0);
  const auto streamed = fairway(folder, {"generate", "one", "--prompt", "The", "--seed", "4"});
  const auto whole = fairway(folder, {"generate", "one", "--prompt", "The", "--seed", "4", "--json"});
  ASSERT_EQ(whole.code, 0) << whole.err;
  EXPECT_EQ(streamed.out, "The" + Json::parse(whole.out)["text"].get<std::string>() + "\n");
  const auto refused = fairway(folder, {"generate", "one", "--prompt", "caf\xE9"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, HasSubstr("--prompt: not valid UTF-8 at byte 3"));

  const auto again = fairway(folder, run_arguments("one"));
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("--resume"));
  EXPECT_EQ(fairway(folder, run_arguments("one", {"--resume"})).code, 0);
  const auto changed = fairway(folder, run_arguments("one", {"--resume", "--set", "optim.beta1=0.8"}));
  EXPECT_EQ(changed.code, 2);
  EXPECT_THAT(changed.err, HasSubstr("optim.beta1"));
}

}  // namespace
}  // namespace fairway::test
