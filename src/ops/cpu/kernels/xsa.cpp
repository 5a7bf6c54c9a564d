#include "attention_tiling.h"
#include "cpu/kernel.h"
#include "fairway/ops/attention.h"
#include "kernels.h"
#include "softmax_block.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

constexpr float shortest = 1e-12f;  // |v| below counts as this, as in the published models

/// Sizes of one call, and where positions lie.
struct Sizes {
  std::int64_t batch, queries, positions, heads, kv_heads, group, dh;
  Sizes(const KernelArgs& a, const HeadShape& h)
      : batch(a.in[0].shape()[0]),
        queries(a.in[0].shape()[1]),
        positions(a.in[1].shape()[1]),
        heads(h.heads),
        kv_heads(h.kv_heads),
        group(h.heads / h.kv_heads),
        dh(h.head_dim) {}
  std::int64_t before() const { return positions - queries; }  ///< positions without an output
  std::int64_t o_at(std::int64_t b, std::int64_t i, std::int64_t head) const {
    return ((b * queries + i) * heads + head) * dh;
  }
  std::int64_t v_at(std::int64_t b, std::int64_t position, std::int64_t kv_head) const {
    return ((b * positions + position) * kv_heads + kv_head) * dh;
  }
};

template <class T>
T length(const T* v, std::int64_t dh) {
  return static_cast<T>(__builtin_sqrt(dot(v, v, dh)));
}

/// Calls f(b, position) for all positions from `skip` on.
template <class F>
void for_positions(const KernelArgs& a, const Sizes& n, std::int64_t skip, const F& f) {
  const std::int64_t count = n.positions - skip;
  parallel_rows(a, n.batch * count, n.heads * n.dh,
                [&](std::int64_t row) { f(row / count, skip + row % count); });
}

template <class T>
void forward(const KernelArgs& a) {
  const Sizes n(a, static_cast<const Xsa&>(a.op).shape);
  const T *o = in<T>(a, 0), *v = in<T>(a, 1);
  const auto y = out<T>(a, 0);
  for_positions(a, n, n.before(), [&](std::int64_t b, std::int64_t position) {
    for (std::int64_t head = 0; head < n.heads; ++head) {
      const T* vv = v + n.v_at(b, position, head / n.group);
      const T norm = length(vv, n.dh), longer = norm > T(shortest) ? norm : T(shortest);
      const std::int64_t at = n.o_at(b, position - n.before(), head);
      const auto factor = splat<T>(dot(o + at, vv, n.dh) / longer / longer);
      for_vectors<T>(n.dh, [&](std::int64_t j, auto part) {
        y.put(at + j, part, load(o + at + j, part) - factor * load(vv + j, part));
      });
    }
  });
}

/// With c = 1 / max(|v|, shortest), n = c v: per head h of the group (o.n), (dy.n); then
/// dv = c (dn - (dn.n) n), dn = -sum_h ((o.n) dy + (dy.n) o), whose (dn.n) = -2 sum_h (o.n)(dy.n).
template <class T>
void backward(const KernelArgs& a) {
  const Sizes n(a, static_cast<const XsaBackward&>(a.op).shape);
  const T *o = in<T>(a, 0), *v = in<T>(a, 1), *dy = in<T>(a, 2);
  const auto d_o = out<T>(a, 0), dv = out<T>(a, 1);
  for_positions(a, n, 0, [&](std::int64_t b, std::int64_t position) {
    for (std::int64_t kv_head = 0; kv_head < n.kv_heads; ++kv_head) {
      const std::int64_t v_at = n.v_at(b, position, kv_head), first = kv_head * n.group;
      const T* vv = v + v_at;
      const T norm = length(vv, n.dh), c = T(1) / (norm > T(shortest) ? norm : T(shortest));
      const bool flows = norm > T(shortest) && position >= n.before();
      T o_n[xsa_largest_group], dy_n[xsa_largest_group], products = 0;
      for (std::int64_t g = 0; dv && flows && g < n.group; ++g) {
        const std::int64_t at = n.o_at(b, position - n.before(), first + g);
        o_n[g] = dot(o + at, vv, n.dh) * c;
        dy_n[g] = dot(dy + at, vv, n.dh) * c;
        products += o_n[g] * dy_n[g];
      }
      for_vectors<T>(dv ? n.dh : 0, [&](std::int64_t j, auto part) {
        auto total = splat<T>(0);
        for (std::int64_t g = 0; flows && g < n.group; ++g) {
          const std::int64_t at = n.o_at(b, position - n.before(), first + g) + j;
          total = total - splat<T>(o_n[g]) * load(dy + at, part) - splat<T>(dy_n[g]) * load(o + at, part);
        }
        if (flows) total = splat<T>(c) * (total + splat<T>(2 * products * c) * load(vv + j, part));
        dv.put(v_at + j, part, total);
      });
      if (!d_o || position < n.before()) continue;
      for (std::int64_t g = 0; g < n.group; ++g) {  // last: d_o may share memory with dy
        const std::int64_t at = n.o_at(b, position - n.before(), first + g);
        const auto factor = splat<T>(dot(dy + at, vv, n.dh) * c * c);
        for_vectors<T>(n.dh, [&](std::int64_t j, auto part) {
          d_o.put(at + j, part, load(dy + at + j, part) - factor * load(vv + j, part));
        });
      }
    }
  });
}

}  // namespace

void xsa(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) { forward<T>(a); });
}
void xsa_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) { backward<T>(a); });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
