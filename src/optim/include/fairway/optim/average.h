#pragma once
// Weight averages (spec/training.md sections 9 and 10), in fp32 over the flat parameter buffer.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/optim/state.h"

namespace fairway::optim {

/// A part [begin, end) of a flat buffer.
struct FlatRange {
  std::string name;
  std::int64_t begin = 0, end = 0;
};

/// e <- decay e + (1 - decay) theta, from the initial weights on, without bias correction.
class Ema {
 public:
  Ema(double decay, std::span<const float> initial);
  void update(std::span<const float> values, base::ThreadPool& pool);
  std::span<const float> values() const noexcept { return average_; }
  std::vector<StateBuffer> state(const std::string& prefix);  ///< prefix + "ema"

 private:
  double decay_;
  std::vector<float> average_;
};

/// A running sum of snapshots; the mean is the average. Parts named in `bf16_ranges` are summed and divided
/// in bfloat16, as the published systems do with tables they keep so.
class Swa {
 public:
  explicit Swa(std::int64_t elements, std::vector<FlatRange> bf16_ranges = {});
  void add(std::span<const float> values, base::ThreadPool& pool);
  std::int64_t count() const noexcept { return count_; }
  /// Writes sum / count; `count()` must not be 0.
  void mean(std::span<float> out, base::ThreadPool& pool) const;
  std::vector<StateBuffer> state(const std::string& prefix);  ///< prefix + "swa.count" (int64), "swa.sum"

 private:
  std::int64_t count_ = 0;
  std::vector<float> sum_;
  std::vector<FlatRange> bf16_ranges_;
};

}  // namespace fairway::optim
