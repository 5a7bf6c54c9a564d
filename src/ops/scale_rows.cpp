#include "fairway/ops/scale_rows.h"

#include "rule.h"

namespace fairway::ops {

std::vector<Meta> ScaleRows::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, {rule::wide(in[0].dtype), rule::leading(in[0].shape)});
  return {in[0]};
}
std::string ScaleRows::attributes() const { return fmt::format("factor={}", factor); }

}  // namespace fairway::ops
