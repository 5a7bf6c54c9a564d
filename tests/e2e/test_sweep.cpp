// `fairway sweep`: two variants, two seeds, at the smallest scale.
#include "e2e.h"

#include <fstream>

namespace fairway::test {
namespace {

using ::testing::HasSubstr;

/// The quick model of the other tests as a sweep; `variants` is TOML.
std::string write_sweep(const Folder& folder, const std::string& variants) {
  base::write_file(folder / "s.toml",
                   "name = \"s\"\nbase = \"demo\"\nscale = \"tiny\"\nseeds = [1, 2]\n" + variants);
  return "s.toml";
}
const std::string kVariants =
    "[[variant]]\nname = \"base\"\n[[variant]]\nname = \"slow_tables\"\noptim.table_lr = 0.01\n"
    "quant.coder = \"brotli\"\n";

Arguments sweep(const Arguments& more) {
  auto command = quick({"sweep", "s.toml"}, more);
  command.insert(command.end(), {"--set", "generate.tokens=0", "--set", "train.steps=4"});
  return command;
}

std::string metrics_of(const Folder& folder, const std::string& cell) {
  return base::read_text_file(folder / (cell + "/metrics.jsonl"));
}

TEST(Sweep, ComparesVariantsAndSkipsWhatIsFinished) {
  Folder folder;
  write_sweep(folder, kVariants);
  const auto result = json_of(folder, sweep({"--out", "X"}));
  ASSERT_EQ(result["cells"].size(), 4u);
  EXPECT_EQ(result["metric"], "score.sliding.loss");
  EXPECT_EQ(result["failed"], false);
  for (const auto& c : result["cells"]) {
    EXPECT_EQ(c["state"], "finished") << c;
    EXPECT_EQ(c["skipped"], false);
    EXPECT_EQ(c["verdict"], "valid");
    const auto run =
        Json::parse(base::read_text_file(folder / (c["folder"].get<std::string>() + "/result.json")));
    EXPECT_EQ(c["metric"], run["score"]["sliding"]["loss"]);
    EXPECT_EQ(run["seed"], c["seed"]);
  }
  const auto& rows = result["table"];
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_NEAR(rows[0]["mean"].get<double>(),
              (result["cells"][0]["metric"].get<double>() + result["cells"][1]["metric"].get<double>()) / 2,
              1e-12);
  EXPECT_NEAR(rows[1]["difference"].get<double>(),
              rows[1]["mean"].get<double>() - rows[0]["mean"].get<double>(), 1e-12);
  EXPECT_NE(rows[1]["difference"].get<double>(), 0);
  EXPECT_LT(rows[1]["p"].get<double>(), 1);
  EXPECT_LT(rows[1]["artifact_bytes"].get<double>(), rows[0]["artifact_bytes"].get<double>())
      << "brotli beats zstd 3";
  EXPECT_EQ(Json::parse(base::read_text_file(folder / "X/sweep.json")), result);
  EXPECT_THAT(base::read_text_file(folder / "X/sweep.html"), HasSubstr("slow_tables"));

  expect_input_error(fairway(folder, sweep({"--out", "X"})), "--resume");
  // One cell is lost, the others stay as they are.
  std::filesystem::remove_all(folder / "X/base/seed-2");
  const auto again = json_of(folder, sweep({"--out", "X", "--resume", "--jobs", "2"}));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(again["cells"][i]["metric"], result["cells"][i]["metric"]);
    EXPECT_EQ(again["cells"][i]["skipped"], i != 1);
  }
  EXPECT_EQ(again["table"], result["table"]);
}

TEST(Sweep, AFailingRunIsReportedAndTheOthersGoOnEachByItsNumber) {
  Folder folder;
  write_sweep(
      folder,
      "[[variant]]\nname = \"lost\"\ntrain.init = \"nowhere.safetensors\"\n[[variant]]\nname = \"base\"\n"
      "metric = \"score.plain.loss\"\n");
  auto command = sweep({"--out", "X", "--json", "--seeds", "1"});
  const auto said = fairway(folder, command);
  EXPECT_EQ(said.code, 1) << said.err;
  const auto result = Json::parse(said.out);
  EXPECT_EQ(result["failed"], true);
  EXPECT_EQ(result["cells"][0]["state"], "failed");
  EXPECT_THAT(result["cells"][0]["error"].get<std::string>(), HasSubstr("nowhere.safetensors"));
  EXPECT_EQ(result["cells"][1]["state"], "finished");
  const auto run = Json::parse(base::read_text_file(folder / "X/base/seed-1/result.json"));
  EXPECT_EQ(result["cells"][1]["metric"], run["score"]["plain"]["loss"]);
  EXPECT_EQ(result["table"][1]["metric"], "score.plain.loss");
  EXPECT_EQ(result["table"][0]["metric"], "score.sliding.loss");
}

TEST(Sweep, InterruptedItGoesOnWhereItWas) {
  Folder folder;
  write_sweep(folder, kVariants);
  const Arguments slow = {"--set", "train.steps=100", "--set", "train.warmdown_steps=4", "--seeds", "1"};
  auto arguments = quick({"sweep", "s.toml", "--out", "X"}, slow);
  Background run(folder, arguments);
  ASSERT_TRUE(run.until([&] {
    std::error_code error;
    return std::filesystem::file_size(folder / "X/base/seed-1/metrics.jsonl", error) > 0 && !error;
  }));
  run.send(SIGINT);
  const auto said = run.wait();
  EXPECT_EQ(said.code, 130) << said.err;
  EXPECT_THAT(said.err, HasSubstr("--resume"));
  EXPECT_EQ(Json::parse(base::read_text_file(folder / "X/sweep.json"))["cells"][0]["state"], "open");
  arguments.insert(arguments.end(), {"--resume"});
  const auto result = json_of(folder, arguments);
  EXPECT_EQ(result["cells"][0]["state"], "finished");
  EXPECT_EQ(result["cells"][1]["state"], "finished");
  // The partial run went on from its checkpoint: every step stands in the log once.
  int step = 0;
  std::istringstream lines(metrics_of(folder, "X/base/seed-1"));
  for (std::string line; std::getline(lines, line);) EXPECT_EQ(Json::parse(line)["step"], ++step);
  EXPECT_EQ(step, 100);
}

TEST(Sweep, BadSweepsAreInputErrors) {
  Folder folder;
  write_sweep(folder, "");
  expect_input_error(fairway(folder, {"sweep", "s.toml"}), "the sweep is empty");
  write_sweep(folder, "[[variant]]\nname = \"a\"\ntrain.stepz = 3\n");
  expect_input_error(fairway(folder, {"sweep", "s.toml"}), "s.toml:7:7: unknown key 'train.stepz'");
  expect_input_error(fairway(folder, {"sweep", "missing.toml"}), "missing.toml");
}

}  // namespace
}  // namespace fairway::test
