#include "fairway/ops/activation.h"

#include "rule.h"

namespace fairway::ops {

std::vector<Meta> LeakyReluSquared::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 1);
  rule::activation(*this, in, 0);
  return {in[0]};
}

std::vector<BackwardStep> LeakyReluSquared::backward() const {
  return {{std::make_shared<LeakyReluSquaredBackward>(slope), {input(0), grad(0)}, {0}}};
}

std::string LeakyReluSquared::attributes() const { return fmt::format("slope={}", slope); }

std::vector<Meta> LeakyReluSquaredBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  return {in[0]};
}

}  // namespace fairway::ops
