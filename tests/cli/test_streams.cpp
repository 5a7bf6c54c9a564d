// Streams that take nothing, limits and signals: work is never lost for want of a message.
#include <gmock/gmock.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "program.h"

namespace fairway::test {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

/// The shell's exit code for `command`, in which $F is the program and $T the run of a second or less.
int shell(const Folder& folder, const std::string& command) {
  const std::string tiny =
      "run --scale tiny --set train.steps=2 --set model.layers=2 --set model.width=32 --set model.heads=1 "
      "--set model.kv_heads=1 --set model.xsa_layers=[1] --set model.ve_layers=[1] --set "
      "model.bigram_rows=64 "
      "--set train.batch_tokens=1024 --set data.train_bytes=60000 --set model.vocab_size=320 "
      "--set quant.level=3 --set score.tokens=512 --set score.stride=0 --set generate.tokens=0";
  const auto line =
      "cd '" + folder.path().string() + "' && F='" FAIRWAY_PROGRAM "' && T='" + tiny + "' && " + command;
  const int status = std::system(line.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::vector<std::string> temporary_files(const fs::path& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".tmp") found.push_back(entry.path().filename());
  return found;
}

TEST(Streams, AFullOrClosedStandardErrorStopsNothing) {
  Folder folder;
  EXPECT_EQ(shell(folder, "$F score nosuch.fairway --text none.txt 2>/dev/full"), 2);
  EXPECT_EQ(shell(folder, "$F score nosuch.fairway --text none.txt 2>&-"), 2);
  EXPECT_EQ(shell(folder, "$F $T --out full >out 2>/dev/full"), 0);
  EXPECT_TRUE(fs::exists(folder / "full/report.html"));
  EXPECT_EQ(shell(folder, "$F $T --out closed >out 2>&-"), 0);
  EXPECT_EQ(base::read_file(folder / "closed/model.fairway"), base::read_file(folder / "full/model.fairway"))
      << "no file takes the place of standard error";
  EXPECT_EQ(shell(folder, "$F inspect closed/checkpoint.fwck >out"), 0) << "nor did messages go into one";
}

/// A pipe whose reader is gone, as 9 for the shells of this process.
class BrokenPipe {
 public:
  static constexpr int kNumber = 9;
  BrokenPipe() {
    int ends[2] = {};
    if (pipe(ends) != 0 || dup2(ends[1], kNumber) < 0) throw std::runtime_error("no pipe");
    close(ends[0]);
    if (ends[1] != kNumber) close(ends[1]);
  }
  ~BrokenPipe() { close(kNumber); }
};

TEST(Streams, ABrokenPipeForMessagesStopsNothing) {
  Folder folder;
  const BrokenPipe broken;
  EXPECT_EQ(shell(folder, "$F $T --out r >out 2>&9"), 0);
  EXPECT_TRUE(fs::exists(folder / "r/result.json"));
}

TEST(Streams, ResultsThatCannotBeWrittenAreAFailure) {
  Folder folder;
  const BrokenPipe broken;
  for (const char* command : {"recipes", "recipes --json", "--help", "run --help", "--version"}) {
    EXPECT_EQ(shell(folder, std::string("$F ") + command + " >/dev/full 2>err"), 1) << command;
    EXPECT_THAT(base::read_text_file(folder / "err"), HasSubstr("standard output cannot be written"))
        << command;
    EXPECT_EQ(shell(folder, std::string("$F ") + command + " >&- 2>err"), 1) << command;
    EXPECT_EQ(shell(folder, std::string("$F ") + command + " >&9 2>err"), 1) << command << ": a broken pipe";
  }
}

TEST(Streams, AFileBeyondTheLimitIsOneClearLineAndLeavesNothing) {
  Folder folder;
  EXPECT_EQ(shell(folder, "(ulimit -f 200; $F $T --quiet --out f >out 2>err)"), 1);
  const auto said = base::read_text_file(folder / "err");
  EXPECT_THAT(said, HasSubstr("f/checkpoint.fwck: File too large\n"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_THAT(temporary_files(folder / "f"), ::testing::IsEmpty());
}

/// Starts a long run, sends `signal` once it has logged a step, and returns its exit code.
int end_a_run(const Folder& folder, int signal) {
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
    if (fs::file_size(log, missing) > 0 && !missing) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  kill(child, signal);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class Signals : public ::testing::TestWithParam<int> {};

TEST_P(Signals, FinishTheStepAndSave) {
  Folder folder;
  EXPECT_EQ(end_a_run(folder, GetParam()), 130);
  EXPECT_TRUE(fs::exists(folder / "run/checkpoint.fwck"));
  EXPECT_FALSE(fs::exists(folder / "run/result.json"));
  EXPECT_THAT(temporary_files(folder / "run"), ::testing::IsEmpty());
  const auto said = base::read_text_file(folder / ".err");
  EXPECT_THAT(said, HasSubstr("stopping after this step"));
  EXPECT_THAT(said, HasSubstr("continue with --resume"));
  const auto inspected = fairway(folder, {"inspect", "run/checkpoint.fwck"});
  EXPECT_EQ(inspected.code, 0) << inspected.err;
}

INSTANTIATE_TEST_SUITE_P(All, Signals, ::testing::Values(SIGINT, SIGHUP, SIGUSR1, SIGXFSZ),
                         [](const auto& test) { return std::string("Signal") + std::to_string(test.param); });

}  // namespace
}  // namespace fairway::test
