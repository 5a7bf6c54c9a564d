#include "fairway/ops/qkv_product.h"
#include "passes.h"

namespace fairway::graph::passes {

void fuse_heads(Rewriter& r) {
  r.at_each<ops::QkvPrepare>([&](std::size_t prepare, const ops::QkvPrepare& op) -> Rewriter::Verdict {
    auto in = r.step(prepare).in;
    const auto raw = in[0];
    std::size_t product = 0;
    if (auto why = r.linear_before(raw, "what it reads", product); !why.empty()) return why;
    if (in[3] != absent) return "its rows stand at offsets";
    const auto& x = r.step(product).in;
    if (!ops::qkv_product_fits(op.shape, op.rope_dims, r.meta(x[0])))
      return fmt::format("its kernel does not take heads of {} from {}", op.shape.head_dim,
                         r.meta(x[0]).shape.str());
    in.erase(in.begin());
    in.insert(in.begin(), x.begin(), x.end());
    r.replace(prepare,
              std::make_shared<const ops::QkvProduct>(op.shape, op.rope_dims, op.eps, op.value_embedding),
              std::move(in), r.step(prepare).out);
    r.remove(product);
    return "";
  });
}

}  // namespace fairway::graph::passes
