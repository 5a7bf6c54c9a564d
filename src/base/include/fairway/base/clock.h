#pragma once
#include <chrono>
#include <string>

namespace fairway::base {

/// Seconds of steady time since construction.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  void restart() { start_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Peak resident memory of this process in bytes (0 where the system does not tell).
std::uint64_t peak_memory_bytes();

/// UTC as 2026-01-31T12:00:00Z.
std::string utc_timestamp();

}  // namespace fairway::base
