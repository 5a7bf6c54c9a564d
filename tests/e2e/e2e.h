#pragma once
// Runs of a small model of the full family on the demo's text: seconds each.

#include "cli/program.h"
#include "fairway/base/file.h"

#include <gmock/gmock.h>
#include <fstream>

#include <nlohmann/json.hpp>

#include <csignal>
#include <thread>

namespace fairway::test {

using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

inline const std::string kDemo = FAIRWAY_DATA_DIR "/demo/demo.txt";
inline const std::string kPublished = FAIRWAY_DATA_DIR "/tokenizers/fineweb_1024_bpe.model";

/// `command`, the options that make the demo a run of a second, then `more`.
inline Arguments quick(Arguments command, const Arguments& more = {}) {
  for (const char* set :
       {"model.vocab_size=320", "model.layers=2", "model.width=64", "model.heads=2", "model.kv_heads=1",
        "model.ve_layers=[1]", "model.xsa_layers=[1]", "model.bigram_rows=128", "data.train_bytes=200000",
        "train.steps=8", "train.warmdown_steps=4", "train.batch_tokens=1024", "train.validate_every=0",
        "quant.level=3", "quant.passthrough_limit=1024", "score.tokens=3000", "generate.tokens=24"}) {
    command.push_back("--set");
    command.push_back(set);
  }
  command.insert(command.end(), {"--scale", "tiny"});
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

/// Runs and expects success; the JSON it prints.
inline Json json_of(const Folder& folder, Arguments arguments) {
  arguments.push_back("--json");
  const auto said = fairway(folder, arguments);
  EXPECT_EQ(said.code, 0) << said.err;
  return said.code == 0 ? Json::parse(said.out) : Json();
}

/// One line of error and exit code 2, nothing on standard output.
inline void expect_input_error(const Outcome& said, const std::string& part) {
  EXPECT_EQ(said.code, 2) << said.err;
  EXPECT_THAT(said.err, ::testing::HasSubstr("fairway: error: "));
  EXPECT_THAT(said.err, ::testing::HasSubstr(part));
  EXPECT_EQ(said.out, "");
  // Notes of progress may come before it; the error is one line and the last.
  const auto at = said.err.find("fairway: error: ");
  EXPECT_EQ(said.err.find('\n', at), said.err.size() - 1) << said.err;
}

/// A run in the background.
class Background {
 public:
  Background(const Folder& folder, Arguments arguments) : folder_(folder) {
    // Empty before it starts: killed before its first step, it has said nothing, not what the last one said.
    for (const auto* said : {".out", ".err"}) std::ofstream(folder / said).close();
    child_ = fork();
    if (child_ != 0) return;
    std::vector<char*> argv;
    std::string program = FAIRWAY_PROGRAM;
    argv.push_back(program.data());
    for (auto& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    if (chdir(folder.path().c_str()) != 0) _exit(99);
    redirect(STDIN_FILENO, "/dev/null", O_RDONLY);
    redirect(STDOUT_FILENO, ".out", O_WRONLY | O_CREAT | O_TRUNC);
    redirect(STDERR_FILENO, ".err", O_WRONLY | O_CREAT | O_TRUNC);
    execv(program.c_str(), argv.data());
    _exit(98);
  }
  ~Background() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
  }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  pid_t id() const { return child_; }
  void send(int signal) const { kill(child_, signal); }
  bool running() {
    if (child_ > 0 && waitpid(child_, &status_, WNOHANG) == child_) child_ = 0;
    return child_ > 0;
  }
  /// Waits until `done()` or the program's end; false when it ended first.
  template <class F>
  bool until(F&& done) {
    while (running()) {
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  Outcome wait() {
    if (child_ > 0) waitpid(child_, &status_, 0);
    child_ = 0;
    return {WIFEXITED(status_) ? WEXITSTATUS(status_) : -1, base::read_text_file(folder_ / ".out"),
            base::read_text_file(folder_ / ".err")};
  }

 private:
  const Folder& folder_;
  pid_t child_ = 0;
  int status_ = 0;
};

inline std::vector<std::byte> artifact_of(const Folder& folder, const std::string& run) {
  return base::read_file(folder / (run + "/model.fairway"));
}

}  // namespace fairway::test
