#include "fairway/ops/linear_relu_squared.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/norm.h"
#include "fairway/ops/qkv_product.h"
#include "passes.h"

namespace fairway::graph::passes {
namespace {

/// "" when fused products alone read the normed rows `y`.
std::string readers_fit(const Rewriter& r, const Graph& g, ValueId y) {
  if (g.at(g.root(y)).output) return "the normed rows are read by the host";
  const auto readers = r.readers(y);
  if (readers.empty()) return "nobody reads the normed rows";
  for (const auto s : readers)
    if ((!r.as<ops::QkvProduct>(s) && !r.as<ops::LinearReluSquared>(s)) || g.steps[s].in[0] != y)
      return fmt::format("{} reads the normed rows", g.steps[s].op->name());
  return {};
}

/// The product applies scale r to its own sums of the rows x.
void hand_over(Rewriter& r, std::size_t s, float scale, ValueId x, ValueId factor) {
  auto in = r.step(s).in;
  if (const auto* heads = r.as<ops::QkvProduct>(s)) {
    in.insert(in.end(), {x, factor});
    return r.replace(s,
                     std::make_shared<const ops::QkvProduct>(heads->shape, heads->rope_dims, heads->eps,
                                                             heads->value_embedding, scale),
                     std::move(in), r.step(s).out);
  }
  const float slope = r.as<ops::LinearReluSquared>(s)->slope;
  const auto act = r.step(s).out[0];
  r.replace(s, std::make_shared<const ops::LinearReluSquared>(slope, scale), {in[0], in[1], x, factor},
            r.step(s).out);
  const auto down = r.readers(act).front();
  auto rest = r.step(down).in;
  rest.push_back(factor);
  r.replace(down, std::make_shared<const ops::ReluSquaredLinearAdd>(slope, scale), std::move(rest),
            r.step(down).out);
}

}  // namespace

void defer_norms(Rewriter& r) {
  auto& g = r.graph();
  r.at_each<ops::MixNorm>([&](std::size_t s, const ops::MixNorm& op) -> Rewriter::Verdict {
    const auto out = r.step(s).out;  // m, y, r
    if (auto why = readers_fit(r, g, out[1]); !why.empty()) return why;
    for (const auto reader : r.readers(out[1])) hand_over(r, reader, op.scale, out[0], out[2]);
    r.replace(s, std::make_shared<const ops::MixNorm>(op.scale, op.eps, true, op.skip), r.step(s).in, out);
    return "";
  });
  r.at_each<ops::RmsNorm>([&](std::size_t s, const ops::RmsNorm& op) -> Rewriter::Verdict {
    const auto x = r.step(s).in[0];
    const auto out = r.step(s).out;  // y, r
    if (auto why = readers_fit(r, g, out[0]); !why.empty()) return why;
    for (const auto reader : r.readers(out[0])) hand_over(r, reader, op.scale, x, out[1]);
    // Where a product makes the rows, it can sum their squares, too.
    auto squares = absent;
    const auto sum = r.maker<ops::LinearAdd>(x);
    if (sum && ops::fused_linear_fits(r.meta(r.step(*sum).in[0]), r.meta(x))) {
      squares = r.add_value(ops::row_squares_of(r.meta(x)));
      r.replace(*sum, std::make_shared<const ops::LinearAdd>(true), r.step(*sum).in,
                {r.step(*sum).out[0], squares});
    }
    r.replace(s, std::make_shared<const ops::RmsNorm>(op.scale, op.eps, true), {x, squares}, out);
    return "";
  });
}

}  // namespace fairway::graph::passes
