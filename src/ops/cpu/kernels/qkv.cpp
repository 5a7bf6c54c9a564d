#include "fairway/ops/qkv.h"

#include "cpu/fault.h"
#include "cpu/kernel.h"
#include "cpu/partial.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// Pairs (p[i], r[i]) turned by the angle of cos, sin: p' = p cos + r sin, r' = r cos - p sin. The transpose
/// (backward) is the same with -sin.
template <class T>
inline void rotate(T* __restrict p, T* __restrict r, const T* __restrict cos, const T* __restrict sin,
                   int pairs, T sign) {
  for (int i = 0; i < pairs; ++i) {
    const T s = sign * sin[i], new_p = p[i] * cos[i] + r[i] * s;
    r[i] = r[i] * cos[i] - p[i] * s;
    p[i] = new_p;
  }
}

/// Where a position's row of the rotation table lies.
template <class T>
struct Rotation {
  const T* table;
  const std::int32_t* offset;
  std::int64_t length, positions;
  int dims;
  const T* row(const KernelArgs& a, std::int64_t row) const {
    const auto position = row % length + (offset ? offset[row / length] : 0);
    if (position < 0 || position >= positions) index_fault(a.op.name(), position, positions);
    return table + position * dims;
  }
};
template <class T>
Rotation<T> rotation(const KernelArgs& a, std::size_t table, std::int64_t length, int dims) {
  return {in<T>(a, table), in<std::int32_t>(a, table + 1), length, a.in[table].meta.shape[0], dims};
}

/// One head forward: y = gain * rope(rms(x)); returns 1 / rms.
template <class T>
inline T prepare_head(const T* x, T gain, T eps, const T* rope, int rope_dims, int dh, const Out<T>& y) {
  alignas(64) T head[max_head_dim];
  const T r = inverse_rms<T>(dh, eps, [&](std::int64_t i, auto part) { return load(x + i, part); });
  if (!y) return r;
  for_vectors<T>(dh,
                 [&](std::int64_t i, auto part) { store(head + i, part, splat<T>(r) * load(x + i, part)); });
  const int pairs = rope_dims / 2;
  rotate<T>(head, head + pairs, rope, rope + pairs, pairs, 1);
  for_vectors<T>(dh,
                 [&](std::int64_t i, auto part) { y.put(i, part, splat<T>(gain) * load(head + i, part)); });
  return r;
}

/// One head backward, of y = gain rope(n), as QkvBackward's contract says; gives d gain. dx = `by` times what
/// n = rms(x) sees.
template <class T>
inline T head_gradient(const T* y, const T* dy, T by, T gain, const T* rope, int rope_dims, int dh,
                       const Out<T>& dx) {
  if (!dy) {
    put_row<T>(dx, nullptr, dh);
    return 0;
  }
  auto products = splat<T>(0);
  for_vectors<T>(dh, [&](std::int64_t i, auto part) {
    products = fma(load(y + i, part), load(dy + i, part), products);
  });
  const T inverse_gain = gain == 0 ? T(0) : 1 / gain, dgain = inverse_gain * sum(products);
  if (!dx) return dgain;
  alignas(64) T u[max_head_dim];
  const auto by_dy = splat<T>(by * gain), by_y = splat<T>(by * dgain / static_cast<T>(dh));
  for_vectors<T>(dh, [&](std::int64_t i, auto part) {
    store(u + i, part, by_dy * load(dy + i, part) - by_y * load(y + i, part));
  });
  const int pairs = rope_dims / 2;
  rotate<T>(u, u + pairs, rope, rope + pairs, pairs, -1);
  put_row<T>(dx, u, dh);
  return dgain;
}

}  // namespace

void qkv_prepare(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const auto& op = static_cast<const QkvPrepare&>(a.op);
    const int heads = op.shape.heads, kv_heads = op.shape.kv_heads, dh = op.shape.head_dim,
              dims = op.rope_dims;
    const T eps = op.eps;
    const std::int64_t q_width = heads * dh, kv_width = kv_heads * dh, width = q_width + 2 * kv_width;
    const T *qkv = in<T>(a, 0), *gain = in<T>(a, 1);
    const auto rope = rotation<T>(a, 2, a.in[0].meta.shape[1], dims);
    const T* ve = op.value_embedding ? in<T>(a, 4) : nullptr;
    const T value_scale = ve ? *in<T>(a, 5) * *in<T>(a, 6) : T{};
    const auto q = out<T>(a, 0), k = out<T>(a, 1), v = out<T>(a, 2), r = out<T>(a, 3);
    parallel_rows(a, a.in[0].shape().rows(), width, [&](std::int64_t row) {
      const T *x = qkv + row * width, *rope_row = rope.row(a, row);
      for (int h = 0; h < heads + kv_heads; ++h) {
        const bool is_q = h < heads;
        const auto y = is_q ? q.at(row * q_width + h * dh) : k.at(row * kv_width + (h - heads) * dh);
        const T inverse = prepare_head<T>(x + h * dh, is_q ? gain[h] : T(1), eps, rope_row, dims, dh, y);
        r.put(row * (heads + kv_heads) + h, inverse);
      }
      const T *v_raw = x + q_width + kv_width, *ve_row = ve ? ve + row * kv_width : nullptr;
      const auto v_row = v.at(row * kv_width);
      for_vectors<T>(kv_width, [&](std::int64_t i, auto part) {
        const auto raw = load(v_raw + i, part);
        v_row.put(i, part, ve_row ? fma(splat<T>(value_scale), load(ve_row + i, part), raw) : raw);
      });
    });
  });
}

void qkv_backward(const KernelArgs& a) {
  dispatch(a.in[4], [&]<class T>(T) {
    const auto& op = static_cast<const QkvBackward&>(a.op);
    const int heads = op.shape.heads, kv_heads = op.shape.kv_heads, dh = op.shape.head_dim,
              dims = op.rope_dims;
    const std::int64_t q_width = heads * dh, kv_width = kv_heads * dh, width = q_width + 2 * kv_width;
    const Shape& shape = a.in[4].meta.shape;
    const auto rope = rotation<T>(a, 1, shape[1], dims);
    const T *gain = in<T>(a, 0), *rr = in<T>(a, 3), *q = in<T>(a, 4), *k = in<T>(a, 5), *r = in<T>(a, 6);
    const T* ve = op.value_embedding ? in<T>(a, 7) : nullptr;
    const T vs = ve ? *in<T>(a, 8) : T{}, w = ve ? *in<T>(a, 9) : T{}, row_scale = op.row_scale;
    const T *dq = in<T>(a, 10), *dk = in<T>(a, 11), *dv = in<T>(a, 12);
    const auto dqkv = out<T>(a, 0), dgain = out<T>(a, 1), dve = out<T>(a, 2), dvs = out<T>(a, 3),
               dw = out<T>(a, 4);
    const bool wants_heads = dqkv || dgain, wants_ve = ve && (dvs || dw);
    const auto rows = shape[0] * shape[1];
    const std::int64_t stride = heads + 1;  // of one split's sums: each head's gain, then dv . ve
    const auto factor = [&](std::int64_t row) { return r ? row_scale * r[row] : T(1); };

    const auto heads_of_row = [&](std::int64_t row, T* sums) {
      const T *rope_row = rope.row(a, row), *rr_row = rr + row * (heads + kv_heads);
      const auto dx = dqkv.at(row * width);
      for (int h = 0; h < heads + kv_heads; ++h) {
        const bool is_q = h < heads;
        const std::int64_t from = is_q ? row * q_width + h * dh : row * kv_width + (h - heads) * dh;
        const T* gradient = is_q ? dq : dk;
        const T d = head_gradient<T>((is_q ? q : k) + from, gradient ? gradient + from : nullptr,
                                     rr_row[h] * factor(row), is_q ? gain[h] : T(1), rope_row, dims, dh,
                                     dx.at(h * dh));
        if (is_q) sums[h] += d;
      }
    };
    const auto value_of_row = [&](std::int64_t row, Vec<T>& dot) {
      const T *g = dv ? dv + row * kv_width : nullptr, *ve_row = wants_ve ? ve + row * kv_width : nullptr;
      const auto dx = dqkv.at(row * width + q_width + kv_width), dve_row = dve.at(row * kv_width);
      for_vectors<T>(kv_width, [&](std::int64_t i, auto part) {
        const auto v = g ? load(g + i, part) : splat<T>(0);
        dx.put(i, part, splat<T>(factor(row)) * v);
        dve_row.put(i, part, splat<T>(w * vs) * v);
        if (ve_row) dot = fma(v, load(ve_row + i, part), dot);
      });
    };
    const auto body = [&](T* sums, std::int64_t first, std::int64_t end) {
      auto dot = splat<T>(0);
      for (auto row = first; row < end; ++row) {
        if (wants_heads) heads_of_row(row, sums);
        value_of_row(row, dot);
      }
      sums[heads] = sum(dot);
    };
    const T* partial = partials<T>(a);
    const auto splits = parallel_splits<T>(a, rows, width, stride, true, body);
    sum_partials(a, partial, splits, stride, heads, dgain);
    if (!wants_ve) return;
    T total = 0;
    for (std::int64_t c = 0; c < splits; ++c) total += partial[c * stride + heads];
    dvs.put(0, w * total);
    dw.put(0, vs * total);
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
