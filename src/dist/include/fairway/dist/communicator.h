#pragma once
// Who takes part in a computation and how their results meet. Knows no models.
//
// Executing ranks (threads, GPUs, hosts) are not the *virtual* ranks of a test-time-training protocol: those
// are part of the algorithm (how text is cut, how gradients are weighted), and any number of executing ranks
// works through them.

#include "fairway/base/range.h"

#include <cstdint>
#include <span>

namespace fairway::dist {

/// Collectives among `size()` ranks. Every rank calls the same functions in the same order.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Every rank ends with the element-wise sum over ranks, added in the order of the ranks.
  virtual void sum(std::span<float> values) = 0;
  virtual void sum(std::span<double> values) = 0;
  /// Every rank ends with rank `root`'s values.
  virtual void broadcast(std::span<float> values, int root) = 0;
};

/// One rank: nothing to exchange.
class SingleRank final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void sum(std::span<float>) override {}
  void sum(std::span<double>) override {}
  void broadcast(std::span<float>, int root) override;
};

/// Part `part` of `parts` of `items`: [floor(items part / parts), floor(items (part + 1) / parts)). This is
/// how the published systems cut windows (docs/spec/ttt.md section 4), and how virtual ranks are dealt to
/// executing ones.
base::Range share(std::int64_t items, std::int64_t part, std::int64_t parts);

}  // namespace fairway::dist
