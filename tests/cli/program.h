#pragma once
// Calls the built program and keeps what it said.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "fairway/base/file.h"
#include "support/folder.h"

namespace fairway::test {

/// The program runs in one of its own.
using testing::Folder;

struct Outcome {
  int code = -1;  ///< exit code; -1: killed by a signal
  std::string out, err;
};

inline void redirect(int stream, const std::filesystem::path& path, int flags) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, stream) < 0) _exit(99);
}

/// Runs `fairway ARGUMENTS` in `folder`, with `input` on standard input.
inline Outcome fairway(const Folder& folder, const std::vector<std::string>& arguments,
                       const std::string& input = "") {
  base::write_file(folder / ".in", std::string_view(input));
  const auto child = fork();
  if (child == 0) {
    std::vector<char*> argv;
    std::string program = FAIRWAY_PROGRAM;
    argv.push_back(program.data());
    auto copies = arguments;
    for (auto& argument : copies) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (chdir(folder.path().c_str()) != 0) _exit(99);
    redirect(STDIN_FILENO, ".in", O_RDONLY);
    redirect(STDOUT_FILENO, ".out", O_WRONLY | O_CREAT | O_TRUNC);
    redirect(STDERR_FILENO, ".err", O_WRONLY | O_CREAT | O_TRUNC);
    execv(program.c_str(), argv.data());
    _exit(98);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, base::read_text_file(folder / ".out"),
          base::read_text_file(folder / ".err")};
}

}  // namespace fairway::test
