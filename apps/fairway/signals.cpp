#include "signals.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <string_view>

namespace fairway::app {
namespace {

constexpr int kInterrupted = 130;

/// What nohup and schedulers have told the program to ignore stays ignored.
bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

/// They mean that somebody waits.
bool insists(int signal) { return signal == SIGINT || signal == SIGTERM; }

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ})
    if (insists(signal) || signal == SIGXFSZ || !is_ignored(signal)) sigaddset(&set, signal);
  return set;
}

}  // namespace

SignalWatcher::SignalWatcher() {
  std::signal(SIGPIPE, SIG_IGN);
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
  bool insisted = false;
  int signal = 0;
  while (sigwait(&set, &signal) == 0) {
    if (done_) return;
    if (insisted && insists(signal)) _exit(kInterrupted);
    insisted = insisted || insists(signal);
    if (!source_.request_stop()) continue;
    constexpr std::string_view kNote = "\nfairway: stopping after this step; once more to exit at once\n";
    if (write(STDERR_FILENO, kNote.data(), kNote.size()) < 0) continue;  // nowhere to say it
  }
}

}  // namespace fairway::app
