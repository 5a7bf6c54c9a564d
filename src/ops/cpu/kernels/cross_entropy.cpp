#include "fairway/ops/cross_entropy.h"

#include "cpu/fault.h"
#include "cpu/kernel.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// The work per element is tens of cycles: smaller pieces are handed out than a copy's.
constexpr std::int64_t element_work = 4;

/// tanh(z / cap), a part of the row or (splat) one element: the same bits either way.
template <class T>
[[gnu::always_inline]] inline Vec<T> squash(const Vec<T>& z, const Vec<T>& inverse_cap) {
  return tanh(z * inverse_cap);
}
template <class T>
inline T squash_one(T z, T inverse_cap) {
  alignas(64) T lane[lanes<T>];
  store(lane, squash(splat<T>(z), splat<T>(inverse_cap)));
  return lane[0];
}

/// ln sum exp(cap tanh(z / cap)) of a row. The greatest logit keeps its place under tanh, so one cheap sweep
/// finds the shift and the second, over a row that is in cache by then, does the work.
template <class T>
T row_lse(const T* z, std::int64_t columns, T cap) {
  const T lowest = -__builtin_inf();
  auto greatest = splat<T>(lowest);
  for_vectors<T>(columns,
                 [&](std::int64_t i, auto part) { greatest = max(load(z + i, part, lowest), greatest); });
  const T inverse_cap = 1 / cap, shift = cap * squash_one(max_of(greatest), inverse_cap);
  auto total = splat<T>(0);
  const auto caps = splat<T>(cap), inverse = splat<T>(inverse_cap), shifts = splat<T>(shift);
  for_vectors<T>(columns, [&](std::int64_t i, auto part) {
    const auto e = exp(fma(caps, squash(load(z + i, part), inverse), splat<T>(0) - shifts));
    if constexpr (std::is_same_v<decltype(part), Tail>) {
      alignas(64) T lane[lanes<T>] = {};
      store(lane, part, e);
      total = total + load<T>(lane);
    } else {
      total = total + e;
    }
  });
  return shift + log_of(sum(total));
}

/// target[t], or -1 where the position is not scored.
[[gnu::always_inline]] inline std::int32_t target_of(const KernelArgs& a, const std::int32_t* target,
                                                     std::int64_t t, std::int64_t columns) {
  const auto v = target[t];
  if (v < -1 || v >= columns) index_fault(a.op.name(), v, columns);
  return v;
}

}  // namespace

void softcap_cross_entropy(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& op = static_cast<const SoftcapCrossEntropy&>(a.op);
    const T cap = op.cap, z_loss = op.z_loss;
    const auto& shape = a.in[0].meta.shape;
    const auto columns = shape.columns();
    const T* z = in<T>(a, 0);
    const auto* target = in<std::int32_t>(a, 1);
    const auto nll = out<T>(a, 0), lse = out<T>(a, 1);
    parallel_rows(a, shape.rows(), columns * element_work, [&](std::int64_t row) {
      const T* z_row = z + row * columns;
      const auto t = target_of(a, target, row, columns);
      const T total = row_lse<T>(z_row, columns, cap);
      lse.put(row, total);
      nll.put(row, t < 0 ? T{} : total - cap * squash_one(z_row[t], 1 / cap) + z_loss * total * total);
    });
  });
}

void softcap_cross_entropy_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& op = static_cast<const SoftcapCrossEntropyBackward&>(a.op);
    const T cap = op.cap, z_loss = op.z_loss;
    const auto& shape = a.in[0].meta.shape;
    const auto columns = shape.columns();
    const T *z = in<T>(a, 0), *lse = in<T>(a, 2), *dnll = in<T>(a, 3);
    const auto* target = in<std::int32_t>(a, 1);
    const auto dz = out<T>(a, 0);
    if (!dz) return;
    parallel_rows(a, shape.rows(), columns * element_work, [&](std::int64_t row) {
      const T* z_row = z + row * columns;
      const auto dz_row = dz.at(row * columns);
      const auto t = target_of(a, target, row, columns);
      if (t < 0 || !dnll) {
        put_row<T>(dz_row, nullptr, columns);
        return;
      }
      const T d = dnll[row], h_target = squash_one(z_row[t], 1 / cap);  // before dz may overwrite z
      const auto caps = splat<T>(cap), inverse = splat<T>(1 / cap), minus_lse = splat<T>(-lse[row]),
                 ds = splat<T>(d * (1 + 2 * z_loss * lse[row]));
      for_vectors<T>(columns, [&](std::int64_t i, auto part) {
        const auto h = squash(load(z_row + i, part), inverse);
        dz_row.put(i, part, ds * exp(fma(caps, h, minus_lse)) * (splat<T>(1) - h * h));
      });
      dz_row.p[t] -= d * (1 - h_target * h_target);
    });
  });
}

void softcap(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T cap = static_cast<const Softcap&>(a.op).cap;
    const T* x = in<T>(a, 0);
    const auto y = out<T>(a, 0);
    parallel_vectors<T>(a, a.in[0].elements(), grain / element_work, [&](std::int64_t i, auto part) {
      y.put(i, part, splat<T>(cap) * squash(load(x + i, part), splat<T>(1 / cap)));
    });
  });
}

void weighted_sum(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T *x = in<T>(a, 0), *w = in<T>(a, 1);
    const auto n = a.in[0].elements();
    // One number per position: too little for a second thread. Eight sums side by side, joined block by
    // block.
    constexpr std::int64_t block = 1024, ways = 8;
    double loss = 0;
    for (std::int64_t first = 0; first < n; first += block) {
      double sums[ways] = {};
      const auto last = first + block < n ? first + block : n;
      for (auto i = first; i < last; ++i)
        sums[(i - first) % ways] += static_cast<double>(w[i]) * static_cast<double>(x[i]);
      double total = 0;
      for (const double s : sums) total += s;
      loss += total;
    }
    out<T>(a, 0).put(0, static_cast<T>(loss));
  });
}

void weighted_sum_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T *w = in<T>(a, 0), *dloss = in<T>(a, 1);
    const auto dx = out<T>(a, 0);
    const auto d = splat<T>(dloss ? *dloss : T{});
    parallel_vectors<T>(a, a.in[0].elements(), grain,
                        [&](std::int64_t i, auto part) { dx.put(i, part, d * load(w + i, part)); });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
