// fairway bench and fairway explain: what is measured adds up, whatever the machine.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fairway/report/table.h"
#include "program.h"

namespace fairway::test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

double sum_of(const Json& list, const char* key) {
  double sum = 0;
  for (const auto& entry : list) sum += entry[key].get<double>();
  return sum;
}

/// The sum of the lines that are memory of their own.
double total(const Json& memory) {
  double sum = 0, largest = 0;
  for (const auto& [what, bytes] : memory.items())
    if (what.starts_with("arena of "))
      largest = std::max(largest, bytes.get<double>());
    else
      sum += bytes.get<double>();
  EXPECT_EQ(memory["arena (shared)"], largest) << "programs lie in one arena, as large as the largest";
  return sum;
}

TEST(Measure, BenchAddsUp) {
  Folder folder;
  const auto said = fairway(
      folder, {"bench", "demo", "--scale", "tiny", "--device", "cpu", "--repeats", "1", "--json", "--quiet"});
  ASSERT_EQ(said.code, 0) << said.err;
  const auto r = Json::parse(said.out);
  const auto number = [&](const char* key) { return r[key].get<double>(); };
  EXPECT_GT(r["machine"]["flops_per_second"], 0);
  EXPECT_GT(r["machine"]["bytes_per_second"], 0);
  EXPECT_NEAR(number("tokens_per_second") * number("step_seconds"), number("step_tokens"), 1e-6);
  EXPECT_NEAR(sum_of(r["steps"], "seconds"), number("micro_steps_seconds"),
              1e-9 * number("micro_steps_seconds"));
  EXPECT_NEAR(sum_of(r["steps"], "floor_seconds"), number("micro_floor_seconds"),
              1e-9 * number("micro_floor_seconds"));
  for (const auto& step : r["steps"]) {
    EXPECT_GT(step["bytes"], 0) << step["op"];
    EXPECT_GT(step["count"], 0) << step["op"];
  }
  EXPECT_GT(total(r["memory"]), 1e6);
  EXPECT_EQ(r["device_bytes"], 0) << "a GPU's";
  EXPECT_LT(std::abs(number("loss") - std::log(512)), 1) << "the first loss of a fresh model";
}

TEST(Measure, BenchRefusesWhatItCannotDo) {
  Folder folder;
  for (const auto& [arguments, error] :
       {std::pair<std::vector<std::string>, const char*>{{"--repeats", "0"}, "--repeats 0: must be positive"},
        {{"--tune-products", "x"}, "--tune-products x: products are tuned on a GPU"}}) {
    std::vector<std::string> all = {"bench", "demo", "--scale", "tiny", "--device", "cpu"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const auto said = fairway(folder, all);
    EXPECT_EQ(said.code, 2);
    EXPECT_THAT(said.err, HasSubstr(error));
    EXPECT_FALSE(std::filesystem::exists(folder / "x"));
  }
}

TEST(Measure, ExplainFitsEightyColumnsUnlessWide) {
  Folder folder;
  const auto longest_line = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"explain", "cosine_ttt50", "--device", "cpu"};
    all.insert(all.end(), more.begin(), more.end());
    const auto said = fairway(folder, all);
    EXPECT_EQ(said.code, 0) << said.err;
    std::istringstream lines(said.out);
    std::size_t longest = 0, count = 0;
    for (std::string line; std::getline(lines, line); ++count)
      longest = std::max(longest, report::display_width(line));
    return std::pair(longest, count);
  };
  const auto [narrow, few] = longest_line({});
  const auto [wide, many] = longest_line({"--wide"});
  EXPECT_LE(narrow, 80u);
  EXPECT_GT(wide, 200u);
  EXPECT_LT(2 * few, many) << "kinds, not steps";
}

TEST(Measure, ExplainCountsWithoutRunningAndTimesWhenAsked) {
  Folder folder;
  const auto explained = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"explain", "demo", "--scale", "tiny", "--device", "cpu", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const auto said = fairway(folder, all);
    EXPECT_EQ(said.code, 0) << said.err;
    return Json::parse(said.out);
  };
  const auto counted = explained({}), timed = explained({"--measure"});
  EXPECT_EQ(counted["memory"], timed["memory"]) << "planned before, taken after";
  EXPECT_GT(total(counted["memory"]), 1e6);
  ASSERT_EQ(counted["programs"].size(), timed["programs"].size());
  for (std::size_t i = 0; i < timed["programs"].size(); ++i) {
    const auto &plan = counted["programs"][i], &run = timed["programs"][i];
    EXPECT_EQ(sum_of(plan["steps"], "flops"), plan["flops"].get<double>()) << plan["name"];
    EXPECT_EQ(plan["flops"], run["flops"]);
    EXPECT_EQ(plan["seconds"], 0);
    EXPECT_GT(run["seconds"], 0);
    EXPECT_NEAR(sum_of(run["steps"], "seconds"), run["seconds"].get<double>(),
                1e-9 * run["seconds"].get<double>());
  }
}

}  // namespace
}  // namespace fairway::test
