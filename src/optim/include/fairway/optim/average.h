#pragma once
// Weight averages (docs/spec/training.md sections 9 and 10), in fp32 over the flat parameter buffer.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/range.h"
#include "fairway/base/thread_pool.h"
#include "fairway/optim/optimizer.h"
#include "fairway/optim/state.h"

namespace fairway::optim {

/// e <- decay e + (1 - decay) theta, from the initial weights on (or from those given to `start`), without
/// bias correction. bf16 storage rounds e on each store: half the memory where it is kept so, but changes
/// below 2^-9 of a value are lost, which a decay above 0.99 soon makes them.
class Ema {
 public:
  Ema(double decay, std::span<const float> initial, tensor::DType storage = tensor::DType::f32);
  void start(std::span<const float> values);  ///< e <- theta
  void update(std::span<const float> values, base::ThreadPool& pool);
  std::int64_t count() const noexcept { return count_; }  ///< calls of start and update
  std::span<const float> values() const noexcept { return average_; }
  std::vector<StateBuffer> state(const std::string& prefix);  ///< prefix + "ema.count" (int64), "ema"

 private:
  double decay_;
  tensor::DType storage_;
  std::int64_t count_ = 0;
  std::vector<float> average_;
};

/// A running sum of snapshots; the mean is the average. Parts in `bf16_ranges` are summed and divided
/// in bfloat16, as the published systems do with embeddings they keep so.
class Swa {
 public:
  explicit Swa(std::int64_t elements, std::vector<base::Range> bf16_ranges = {});
  void add(std::span<const float> values, base::ThreadPool& pool);
  std::int64_t count() const noexcept { return count_; }
  /// Writes sum / count; `count()` must not be 0.
  void mean(std::span<float> out, base::ThreadPool& pool) const;
  std::vector<StateBuffer> state(const std::string& prefix);  ///< prefix + "swa.count" (int64), "swa.sum"

 private:
  std::int64_t count_ = 0;
  std::vector<float> sum_;
  std::vector<base::Range> bf16_ranges_;
};

/// How much the loss depends on each matrix: its mean squared gradient, added up over the steps that the
/// caller chooses (docs/spec/ttt.md section 7).
class MeanSquares {
 public:
  explicit MeanSquares(std::vector<ParamRange> matrices);
  /// One step's gradients: the flat buffer, not clipped.
  void add(std::span<const float> gradients, base::ThreadPool& pool);
  std::map<std::string, double> mean() const;  ///< over steps and elements; empty before the first step
  /// "sensitivity.sums": a sum for each matrix, then the number of steps, as doubles.
  std::vector<StateBuffer> state();

 private:
  std::vector<ParamRange> matrices_;
  std::vector<double> sums_;
};

}  // namespace fairway::optim
