#include "fairway/ops/activation.h"
#include "fairway/ops/linear_relu_squared.h"
#include "fairway/ops/matmul.h"
#include "passes.h"

namespace fairway::graph::passes {

void fuse_mlp(Rewriter& r) {
  r.at_each<ops::LeakyReluSquared>([&](std::size_t activation,
                                       const ops::LeakyReluSquared& op) -> Rewriter::Verdict {
    const auto h = r.step(activation).in[0], act = r.step(activation).out[0];
    std::size_t up = 0;
    if (auto why = r.linear_before(h, "what it is taken of", up); !why.empty()) return why;
    if (auto why = r.not_alone(act); !why.empty()) return why;
    const auto down = r.readers(act).front();
    const auto* product = r.as<ops::Matmul>(down);
    const bool alone = product && !product->transpose_a && product->transpose_b;
    if ((!r.as<ops::LinearAdd>(down) && !alone) || r.step(down).in[0] != act)
      return "what reads it is no linear layer";
    const auto x = r.step(up).in[0];
    if (!ops::fused_linear_fits(r.meta(x), r.meta(h)))
      return fmt::format("its kernel does not take {} from {}", r.meta(h).shape.str(), r.meta(x).shape.str());
    r.replace(up, std::make_shared<const ops::LinearReluSquared>(op.slope), r.step(up).in, {act, h});
    const auto in = r.step(down).in;
    const auto sum = r.step(down).out[0];
    // h is kept where its gradient will be asked for.
    r.replace(down, std::make_shared<const ops::ReluSquaredLinearAdd>(op.slope),
              {r.requires_grad(sum) ? h : absent, act, in[1], alone ? absent : in[2]}, {sum});
    r.remove(activation);
    return "";
  });
}

}  // namespace fairway::graph::passes
