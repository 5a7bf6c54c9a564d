#include "fairway/ops/two_lanes.h"

#include "cpu/kernel.h"
#include "cpu/partial.h"
#include "kernels.h"
#include "softmax_block.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// The inputs that forward and backward share, and one of the matrices' entries.
template <class T>
struct Operands {
  std::int64_t rows, columns;
  const T *lane[2], *branch[2], *scale[2], *rho, *P;
  explicit Operands(const KernelArgs& a)
      : rows(a.in[0].meta.shape.rows()),
        columns(a.in[0].meta.shape.columns()),
        lane{in<T>(a, 0), in<T>(a, 1)},
        branch{in<T>(a, 2), in<T>(a, 3)},
        scale{in<T>(a, 4), in<T>(a, 5)},
        rho(in<T>(a, 6)),
        P(in<T>(a, 7)) {}
  /// P[branch][lane]
  auto weight(int from, int to) const { return splat<T>(P[2 * from + to]); }
};

/// Which of a split's six sums per channel.
constexpr int of_branch(int branch, int lane) { return 2 * branch + lane; }
constexpr int of_lane(int lane) { return 4 + lane; }
constexpr int sums_per_channel = 6;

}  // namespace

void two_lanes(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const Operands<T> z(a);
    const bool join = static_cast<const TwoLanes&>(a.op).join;
    const Out<T> y[2] = {out<T>(a, 0), out<T>(a, 1)};
    parallel_rows(a, z.rows, z.columns, [&](std::int64_t row) {
      const auto at = row * z.columns;
      for_vectors<T>(z.columns, [&](std::int64_t i, auto part) {
        const auto attended = load(z.scale[0] + i, part) * load(z.branch[0] + at + i, part);
        const auto hidden = load(z.scale[1] + i, part) * load(z.branch[1] + at + i, part);
        Vec<T> lane[2];
        for (int k = 0; k < 2; ++k)
          lane[k] = fma(z.weight(1, k), hidden,
                        fma(z.weight(0, k), attended, splat<T>(z.rho[k]) * load(z.lane[k] + at + i, part)));
        if (join) return y[0].put(at + i, part, splat<T>(T(0.5)) * (lane[0] + lane[1]));
        for (int k = 0; k < 2; ++k) y[k].put(at + i, part, lane[k]);
      });
    });
  });
}

namespace {

template <class T>
struct Gradients {
  const KernelArgs& a;
  const Operands<T> z{a};
  const bool join = static_cast<const TwoLanesBackward&>(a.op).join;
  const T* dy[2] = {in<T>(a, 8), join ? in<T>(a, 8) : in<T>(a, 9)};
  const T half = join ? T(0.5) : T(1);

  template <class Part>
  Vec<T> d(int lane, std::int64_t at, Part part) const {
    return dy[lane] ? splat<T>(half) * load(dy[lane] + at, part) : splat<T>(0);
  }

  void row(std::int64_t at, T* sums) const {
    for_vectors<T>(z.columns, [&](std::int64_t i, auto part) {
      const Vec<T> d01[2] = {d(0, at + i, part), d(1, at + i, part)};
      for (int k = 0; k < 2; ++k) {
        out<T>(a, k).put(at + i, part, splat<T>(z.rho[k]) * d01[k]);
        const auto into = fma(z.weight(k, 1), d01[1], z.weight(k, 0) * d01[0]);
        out<T>(a, 2 + k).put(at + i, part, load(z.scale[k] + i, part) * into);
        if (!sums) continue;
        for (int to = 0; to < 2; ++to)
          accumulate(sums + of_branch(k, to) * z.columns + i, part,
                     d01[to] * load(z.branch[k] + at + i, part));
        accumulate(sums + of_lane(k) * z.columns + i, part, d01[k] * load(z.lane[k] + at + i, part));
      }
    });
  }

  /// The parameters' gradients of the sums' totals.
  void finish(const T* totals) const {
    for (int k = 0; k < 2; ++k) {
      const T *s0 = totals + of_branch(k, 0) * z.columns, *s1 = totals + of_branch(k, 1) * z.columns;
      for_vectors<T>(z.columns, [&](std::int64_t i, auto part) {
        out<T>(a, 4 + k).put(i, part,
                             fma(z.weight(k, 1), load(s1 + i, part), z.weight(k, 0) * load(s0 + i, part)));
      });
      auto lane_sum = splat<T>(0);
      for_vectors<T>(z.columns, [&](std::int64_t i, auto part) {
        lane_sum = lane_sum + load(totals + of_lane(k) * z.columns + i, part);
      });
      out<T>(a, 6).put(k, sum(lane_sum));
      out<T>(a, 7).put(2 * k, dot(z.scale[k], s0, z.columns));
      out<T>(a, 7).put(2 * k + 1, dot(z.scale[k], s1, z.columns));
    }
  }
};

}  // namespace

void two_lanes_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const Gradients<T> gradients{a};
    const auto& z = gradients.z;
    const auto width = sums_per_channel * z.columns;
    const bool wanted = out<T>(a, 4) || out<T>(a, 5) || out<T>(a, 6) || out<T>(a, 7);
    const auto body = [&](T* sums, std::int64_t first, std::int64_t end) {
      for (auto row = first; row < end; ++row) gradients.row(row * z.columns, sums);
    };
    const auto splits = parallel_splits<T>(a, z.rows, z.columns, width, wanted, body);
    if (!wanted) return;
    T* totals = partials<T>(a) + splits * width;
    sum_partials(a, partials<T>(a), splits, width, width, Out<T>{totals, false});
    gradients.finish(totals);
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
