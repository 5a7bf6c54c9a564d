// Whole runs of the demo at its smallest: same bytes for any number of threads, stop and go on, used folders.
#include <gmock/gmock.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

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
  for (const char* file : {"recipe.toml", "metrics.jsonl", "checkpoint.fwck", "model.fairway", "sample.txt",
                           "result.json", "report.html"})
    EXPECT_TRUE(std::filesystem::exists(folder / (std::string("one/") + file))) << file;
  EXPECT_THAT(base::read_text_file(folder / "one/report.html"), HasSubstr("<svg"));

  ASSERT_EQ(fairway(folder, run_arguments("two", {"--threads", "2"})).code, 0);
  EXPECT_EQ(base::read_text_file(folder / "one/model.fairway"),
            base::read_text_file(folder / "two/model.fairway"))
      << "the number of threads changed the artifact";

  const auto again = fairway(folder, run_arguments("one"));
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("--resume"));
  EXPECT_EQ(fairway(folder, run_arguments("one", {"--resume"})).code, 0);
  const auto changed = fairway(folder, run_arguments("one", {"--resume", "--set", "optim.beta1=0.8"}));
  EXPECT_EQ(changed.code, 2);
  EXPECT_THAT(changed.err, HasSubstr("optim.beta1"));
}

/// Starts a long run, sends SIGINT once it has logged a step, and returns its exit code.
int interrupt_a_run(const Folder& folder) {
  const auto child = fork();
  if (child == 0) {
    std::vector<std::string> arguments = {
        FAIRWAY_PROGRAM,      "run",    "demo", "--scale", "tiny", "--out", "run", "--set",
        "train.steps=100000", "--quiet"};
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (chdir(folder.path().c_str()) != 0) _exit(99);
    redirect(STDERR_FILENO, ".err", O_WRONLY | O_CREAT | O_TRUNC);
    execv(argv[0], argv.data());
    _exit(98);
  }
  const auto log = folder / "run/metrics.jsonl";
  for (int i = 0; i < 600; ++i) {  // a minute at most
    std::error_code missing;
    if (std::filesystem::file_size(log, missing) > 0 && !missing) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  kill(child, SIGINT);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Run, CtrlCFinishesTheStepAndSaves) {
  Folder folder;
  EXPECT_EQ(interrupt_a_run(folder), 130);
  EXPECT_TRUE(std::filesystem::exists(folder / "run/checkpoint.fwck"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run/result.json"));
  const auto said = base::read_text_file(folder / ".err");
  EXPECT_THAT(said, HasSubstr("stopping after this step"));
  EXPECT_THAT(said, HasSubstr("continue with --resume"));
  const auto inspected = fairway(folder, {"inspect", "run/checkpoint.fwck"});
  EXPECT_EQ(inspected.code, 0) << inspected.err;
}

}  // namespace
}  // namespace fairway::test
