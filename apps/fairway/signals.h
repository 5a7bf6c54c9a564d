#pragma once
#include <atomic>
#include <stop_token>
#include <thread>

namespace fairway::app {

/// Turns whatever asks the program to end (Ctrl-C, kill, a closed terminal, a scheduler's warning, the limit
/// on processor time) into a stop request, and SIGINT or SIGTERM after one of these two into an immediate
/// exit with code 130. Others may come twice (a closed terminal, a limit that is passed again) and mean no
/// haste. A thread waits for the signals, so nothing runs inside a signal handler. Construct before any other
/// thread: they inherit the mask that keeps the signals for this one. SIGPIPE is ignored, and SIGXFSZ is
/// blocked in the thread that writes: there a write fails, with a reason that can be told.
class SignalWatcher {
 public:
  SignalWatcher();
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;
  std::stop_token token() const { return source_.get_token(); }

 private:
  void watch();
  std::stop_source source_;
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

}  // namespace fairway::app
