#include "fairway/ops/gated_xsa.h"
#include "fairway/ops/gates.h"
#include "passes.h"

namespace fairway::graph::passes {

void fuse_gated_xsa(Rewriter& r) {
  r.at_each<ops::HeadGate>([&](std::size_t gate, const ops::HeadGate& op) -> Rewriter::Verdict {
    const auto [y, n, w] = std::array{r.step(gate).in[0], r.step(gate).in[1], r.step(gate).in[2]};
    const auto xsa = r.maker<ops::Xsa>(y);
    if (!xsa) return "what it opens does not come from xsa";
    if (auto why = r.not_alone(y); !why.empty()) return why;
    const auto shape = r.as<ops::Xsa>(*xsa)->shape;
    const auto channels = r.meta(w).shape[1];
    if (!ops::gated_xsa_fits(shape, r.meta(n), channels))
      return fmt::format("its kernel does not take {} channels for {} of {} heads", channels, shape.kv_heads,
                         shape.heads);
    const auto [o, v] = std::array{r.step(*xsa).in[0], r.step(*xsa).in[1]};
    if (r.meta(v).shape[1] != r.meta(n).shape[1]) return "its values are of other positions";
    r.replace(gate, std::make_shared<const ops::GatedXsa>(shape, op.scale, op.factor), {o, v, n, w},
              r.step(gate).out);
    r.remove(*xsa);
    return "";
  });
}

}  // namespace fairway::graph::passes
