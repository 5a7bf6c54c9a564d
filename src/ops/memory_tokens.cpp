#include "fairway/ops/memory_tokens.h"

#include "rule.h"

namespace fairway::ops {
namespace {

void check_head(const Operator& op, const Meta& x, const Meta& head) {
  rule::require(op, x.shape.rank() == 3, "the rows are not [B, S, D]");
  rule::require(op,
                head.dtype == rule::wide(x.dtype) && head.shape.rank() == 2 && head.shape[0] > 0 &&
                    head.shape[0] <= x.shape[1] && head.shape[1] == x.shape[2],
                "the head is not [K, D] with K <= S");
}

}  // namespace

std::vector<Meta> MemoryTokens::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  rule::activation(*this, in, 0);
  check_head(*this, in[0], in[1]);
  return {in[0]};
}
std::vector<BackwardStep> MemoryTokens::backward() const {
  return {{std::make_shared<MemoryTokensBackward>(), {input(1), grad(0)}, {0, 1}}};
}

std::vector<Meta> MemoryTokensBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  rule::activation(*this, in, 1);
  check_head(*this, in[1], in[0]);
  return {in[1], in[0]};
}

}  // namespace fairway::ops
