#include "fairway/ops/norm.h"
#include "fairway/ops/residual.h"
#include "passes.h"

namespace fairway::graph::passes {

void residual_norm(Rewriter& r) {
  r.at_each<ops::RmsNorm>([&](std::size_t norm, const ops::RmsNorm& op) -> Rewriter::Verdict {
    const auto sum = r.maker<ops::ScaledResidual>(r.step(norm).in[0]);
    if (!sum) return {};
    const auto& in = r.step(*sum).in;
    if (r.meta(in[2]).shape.elements() != r.meta(in[0]).shape.columns()) return {};  // one scalar for all
    if (r.readers(r.step(*sum).out[0]).size() < 2) return "nothing but the norm reads the sum";
    auto out = r.step(*sum).out;
    out.insert(out.end(), r.step(norm).out.begin(), r.step(norm).out.end());
    r.replace(*sum, std::make_shared<const ops::ResidualNorm>(op.scale, op.eps), in, std::move(out));
    r.remove(norm);
    return "";
  });
}

}  // namespace fairway::graph::passes
