#include "fairway/ops/fake_quantize.h"

#include "rule.h"

namespace fairway::ops {

std::vector<Meta> FakeQuantizeRows::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 1);
  rule::activation(*this, in, 0);
  rule::require(*this, in[0].shape.rank() == 2, "input 0 is not [rows, columns]");
  rule::require(*this, q > 0 && q <= 32767, "q is not in [1, 32767]");
  return {in[0]};
}
std::vector<BackwardStep> FakeQuantizeRows::backward() const { return {{nullptr, {grad(0)}, {0}}}; }
std::string FakeQuantizeRows::attributes() const { return fmt::format("q={}", q); }

}  // namespace fairway::ops
