#pragma once
#include <atomic>
#include <stop_token>
#include <thread>

namespace fairway::app {

/// Turns the first SIGINT or SIGTERM into a stop request and the second into an immediate exit with code 130.
/// A thread waits for the signals, so nothing runs inside a signal handler. Construct before any other
/// thread: they inherit the mask that keeps the signals for this one.
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
