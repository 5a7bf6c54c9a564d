#include "signals.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <string_view>

namespace fairway::app {
namespace {

constexpr int kInterrupted = 130;

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

SignalWatcher::SignalWatcher() {
  const auto set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { watch(); });
}

SignalWatcher::~SignalWatcher() {
  done_ = true;
  pthread_kill(thread_.native_handle(), SIGTERM);  // wakes the thread, which sees that all is done
  thread_.join();
}

void SignalWatcher::watch() {
  const auto set = stop_signals();
  int signal = 0;
  while (sigwait(&set, &signal) == 0) {
    if (done_) return;
    if (source_.stop_requested()) _exit(kInterrupted);
    source_.request_stop();
    constexpr std::string_view kNote = "\nfairway: stopping after this step; once more to exit at once\n";
    if (write(STDERR_FILENO, kNote.data(), kNote.size()) < 0) continue;  // nowhere to say it
  }
}

}  // namespace fairway::app
