// Gradients through the mix at the start of a block. Nothing but memory costs time here, so all rows that a
// step reads are on their way before the first sum, and one block a multiprocessor owns its share of the rows
// from start to end: no second wave. A warp takes a row, keeps the sums of the channels' gradients in
// registers, and the warps' sums are added in order.
#include "cuda/norm_row.cuh"
#include "fairway/ops/norm.h"

namespace fairway::ops::cuda {
namespace {

struct MixNormGradients {
  RowSplits splits;
  std::int64_t columns = 0;
  float scale = 1;
  bool prescaled = false;
  const void *u = nullptr, *x0 = nullptr, *s = nullptr;
  const float *mix = nullptr, *k = nullptr, *r = nullptr;
  const void *dm = nullptr, *dy = nullptr;
  Output du, dx0, ds, dmix, dk;
  float* partial = nullptr;  ///< [splits, 2 or (with s) 3, columns]
};

/// Blocks for all rows: the multiprocessors of an H100. Other GPUs take them in turn; the cut is the shape's
/// alone.
constexpr std::int64_t most_blocks = 132;

/// Warps of a block, by the registers that a row and its sums take: 65,536 / (32 warps) for each thread.
__host__ __device__ constexpr int warps_of(int chunks, bool skip) { return chunks > 2 || skip ? 8 : 12; }

__device__ inline float fetch_one(const float* p) {
  float x;
  asm volatile("ld.global.f32 %0, [%1];" : "=f"(x) : "l"(p));
  return x;
}

/// A lane's part of a row as stored: one access a chunk.
template <class T, int chunks>
struct Row {
  static constexpr int V = wide<T>;
  uint4 part[chunks];
  /// Zeros where p is null.
  __device__ void fetch_from(const void* p, const std::int64_t (&at)[chunks]) {
#pragma unroll
    for (int c = 0; c < chunks; ++c)
      part[c] = p ? fetch(static_cast<const T*>(p) + at[c]) : make_uint4(0, 0, 0, 0);
  }
  __device__ Floats<V> operator[](int c) const { return floats_of<T>(part[c]); }
  __device__ void set(int c, const Floats<V>& x) { store<V>(reinterpret_cast<T*>(&part[c]), x); }
};

/// A channel's factors in shared memory, laid out so that lanes read neighbouring 16 bytes.
template <int V, int chunks>
struct Channels {
  static constexpr int columns = 32 * V * chunks, parts = V / 4;
  float4 v[parts][32 * chunks];
  __device__ void copy_from(const float* p, std::int64_t count) {
    for (int j = threadIdx.x; j < columns; j += blockDim.x)
      reinterpret_cast<float*>(&v[j % V / 4][j / V])[j % 4] = p && j < count ? p[j] : 0.0f;
  }
  __device__ Floats<V> at(int c, int lane) const {
    Floats<V> r;
#pragma unroll
    for (int k = 0; k < parts; ++k) {
      const float4 q = v[k][c * 32 + lane];
      r.v[4 * k] = q.x, r.v[4 * k + 1] = q.y, r.v[4 * k + 2] = q.z, r.v[4 * k + 3] = q.w;
    }
    return r;
  }
};

template <int V>
__device__ Floats<V> product(const Floats<V>& x, const Floats<V>& y) {
  Floats<V> r;
#pragma unroll
  for (int j = 0; j < V; ++j) r.v[j] = x.v[j] * y.v[j];
  return r;
}
template <int V>
__device__ void add_product(Floats<V>& sum, const Floats<V>& x, const Floats<V>& y) {
#pragma unroll
  for (int j = 0; j < V; ++j) sum.v[j] = fmaf(x.v[j], y.v[j], sum.v[j]);
}

/// Stores x, or before + x for an output that is added to; nothing when it is unwanted.
template <int V, class T>
__device__ void put(const Output& to, std::int64_t at, const Floats<V>& before, Floats<V> x) {
  if (!to.data) return;
  if (to.add) x += before;
  store<V>(static_cast<T*>(to.data) + at, x);
}

/// Which outputs are one array because u, x0 and s are not three values: their gradients are added before
/// they are stored.
struct Joined {
  bool dx0_to_du, ds_to_du, ds_to_dx0;
  __device__ explicit Joined(const MixNormGradients& a)
      : dx0_to_du(a.dx0.data && a.dx0.data == a.du.data),
        ds_to_du(a.ds.data && a.ds.data == a.du.data),
        ds_to_dx0(a.ds.data && a.ds.data == a.dx0.data && !ds_to_du) {}
  __device__ const void* before(const Output& o, bool elsewhere) const {
    return o.add && !elsewhere ? o.data : nullptr;
  }
};

/// Sums of g . u, g . x0 and g . s over this block's rows become those of the parameters' gradients:
/// g . (u + k . s), g . x0 and a . g . s.
template <int count>
__device__ void put_sums(const MixNormGradients& a, const float (&total)[count], std::int64_t j) {
  float* to = a.partial + blockIdx.x * count * a.columns + j;
  to[0] = total[0];
  to[a.columns] = total[1];
  if constexpr (count == 3) {
    to[0] += a.k[j] * total[2];
    to[2 * a.columns] = a.mix[j] * total[2];
  }
}

/// Rows in registers.
template <class T, int chunks, bool skip>
__global__ void __launch_bounds__(32 * warps_of(chunks, skip), 1) kernel(MixNormGradients a) {
  constexpr int V = wide<T>, warps = warps_of(chunks, skip), count = skip ? 3 : 2;
  // What outputs hold before is fetched with the rest where registers allow.
  constexpr bool early = !(skip && chunks * V > 16);
  __shared__ Channels<V, chunks> channels[count];  // a, b, k
  __shared__ float shared[warps][32 * V * chunks];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  channels[0].copy_from(a.mix, a.columns);
  channels[1].copy_from(a.mix + a.columns, a.columns);
  if constexpr (skip) channels[2].copy_from(a.k, a.columns);
  __syncthreads();
  Floats<V> sums[count][chunks];
#pragma unroll
  for (int n = 0; n < count; ++n)
#pragma unroll
    for (int c = 0; c < chunks; ++c) sums[n][c] = filled<V>(0);
  const bool wants_sums = a.dmix.data || a.dk.data;
  const Joined joined(a);
  const void *before_du = joined.before(a.du, false), *before_dx0 = joined.before(a.dx0, joined.dx0_to_du),
             *before_ds = joined.before(a.ds, joined.ds_to_du || joined.ds_to_dx0);
  const std::int64_t abreast = std::int64_t{gridDim.x} * warps;
  // From the last row on: what the product before wrote last is still in the L2 cache.
  for (std::int64_t row = a.splits.rows - 1 - (std::int64_t{blockIdx.x} * warps + warp); row >= 0;
       row -= abreast) {
    std::int64_t at[chunks];
    bool live[chunks];
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const std::int64_t i = (c * 32 + lane) * V;
      live[c] = i < a.columns;
      at[c] = row * a.columns + (live[c] ? i : 0);  // idle lanes read along
    }
    Row<T, chunks> u, x0, s, dm, dy, du, dx0, ds;
    u.fetch_from(a.u, at);
    x0.fetch_from(a.x0, at);
    dy.fetch_from(a.dy, at);
    if constexpr (skip) s.fetch_from(a.s, at);
    const float r = fetch_one(a.r + row);
    dm.fetch_from(a.dm, at);
    if constexpr (early) {
      dx0.fetch_from(before_dx0, at);
      du.fetch_from(before_du, at);
      if constexpr (skip) ds.fetch_from(before_ds, at);
    }
    Row<T, chunks> m;  // as forward stored it
    float dot = 0;
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      Floats<V> sum = u[c];
      if constexpr (skip) sum = with_skip(sum, s[c], channels[2].at(c, lane));
      m.set(c, mixed(sum, x0[c], channels[0].at(c, lane), channels[1].at(c, lane)));
      const Floats<V> there = product(m[c], dy[c]);
#pragma unroll
      for (int j = 0; j < V; ++j) dot += live[c] ? there.v[j] : 0.0f;
    }
    const RowFactors by = row_factors(r, a.scale, a.prescaled, dot, a.columns);
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      Floats<V> g = dm[c];
      const Floats<V> from = dy[c], along = m[c];
#pragma unroll
      for (int j = 0; j < V; ++j) g.v[j] += from.v[j] * by.dy - along.v[j] * by.x;
      if (wants_sums) {
        add_product(sums[0][c], g, u[c]);
        add_product(sums[1][c], g, x0[c]);
        if constexpr (skip) add_product(sums[2][c], g, s[c]);
      }
      if (!live[c]) continue;
      if constexpr (!early) {
        std::int64_t one[1] = {at[c]};
        Row<T, 1> late;
        late.fetch_from(before_dx0, one), dx0.part[c] = late.part[0];
        late.fetch_from(before_du, one), du.part[c] = late.part[0];
        late.fetch_from(before_ds, one), ds.part[c] = late.part[0];
      }
      const Floats<V> t = product(channels[0].at(c, lane), g);
      Floats<V> to_u = t, to_x0 = product(channels[1].at(c, lane), g);
      if constexpr (skip) {
        const Floats<V> to_s = product(channels[2].at(c, lane), t);
        if (joined.ds_to_du)
          to_u += to_s;
        else if (joined.ds_to_dx0)
          to_x0 += to_s;
        else
          put<V, T>(a.ds, at[c], ds[c], to_s);
      }
      if (joined.dx0_to_du)
        to_u += to_x0;
      else
        put<V, T>(a.dx0, at[c], dx0[c], to_x0);
      put<V, T>(a.du, at[c], du[c], to_u);
    }
  }
  if (!wants_sums) return;
  constexpr int each = (32 * V * chunks + 32 * warps - 1) / (32 * warps);
  float totals[each][count] = {};
#pragma unroll
  for (int n = 0; n < count; ++n) {
#pragma unroll
    for (int c = 0; c < chunks; ++c)
#pragma unroll
      for (int j = 0; j < V; ++j) shared[warp][(c * 32 + lane) * V + j] = sums[n][c].v[j];
    __syncthreads();
#pragma unroll
    for (int e = 0; e < each; ++e) {
      const int j = threadIdx.x + e * 32 * warps;
      if (j < a.columns)
#pragma unroll
        for (int w = 0; w < warps; ++w) totals[e][n] += shared[w][j];
    }
    __syncthreads();
  }
#pragma unroll
  for (int e = 0; e < each; ++e)
    if (const int j = threadIdx.x + e * 32 * warps; j < a.columns) put_sums(a, totals[e], j);
}

/// Rows of any length: one warp for a split; the sums of an element stay with the lane that holds it.
template <class T, bool skip>
__global__ void any_row_kernel(MixNormGradients a) {
  constexpr int count = skip ? 3 : 2;
  const std::int64_t begin = blockIdx.x * a.splits.each, end = min(begin + a.splits.each, a.splits.rows);
  const auto read = [](const void* p, std::int64_t i) {
    return Floats<1>{{p ? widen(static_cast<const T*>(p)[i]) : 0.0f}};
  };
  const auto stored_m = [&](std::int64_t at, std::int64_t i) {
    Floats<1> sum = read(a.u, at + i);
    if constexpr (skip) sum = with_skip(sum, read(a.s, at + i), load<1>(a.k + i));
    T m;
    narrow(mixed(sum, read(a.x0, at + i), load<1>(a.mix + i), load<1>(a.mix + a.columns + i)).v[0], &m);
    return widen(m);
  };
  float* partial = a.dmix.data || a.dk.data ? a.partial + blockIdx.x * count * a.columns : nullptr;
  for (std::int64_t i = threadIdx.x; partial && i < a.columns; i += 32)
    for (int n = 0; n < count; ++n) partial[n * a.columns + i] = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t at = row * a.columns;
    float dot = 0;
    for (std::int64_t i = threadIdx.x; a.dy && i < a.columns; i += 32)
      dot += stored_m(at, i) * read(a.dy, at + i).v[0];
    const RowFactors by = row_factors(a.r[row], a.scale, a.prescaled, dot, a.columns);
    for (std::int64_t i = threadIdx.x; i < a.columns; i += 32) {
      const Floats<1> g{{read(a.dm, at + i).v[0] + read(a.dy, at + i).v[0] * by.dy - stored_m(at, i) * by.x}};
      if (partial) {
        partial[i] += g.v[0] * read(a.u, at + i).v[0];
        partial[a.columns + i] += g.v[0] * read(a.x0, at + i).v[0];
        if constexpr (skip) partial[2 * a.columns + i] += g.v[0] * read(a.s, at + i).v[0];
      }
      const Floats<1> t{{a.mix[i] * g.v[0]}};
      const auto before = [&](const Output& o) { return read(o.add ? o.data : nullptr, at + i); };
      put<1, T>(a.du, at + i, before(a.du), t);
      put<1, T>(a.dx0, at + i, before(a.dx0), {{a.mix[a.columns + i] * g.v[0]}});
      if constexpr (skip) put<1, T>(a.ds, at + i, before(a.ds), {{a.k[i] * t.v[0]}});
    }
  }
  for (std::int64_t i = threadIdx.x; partial && i < a.columns; i += 32) {
    float total[count];
    for (int n = 0; n < count; ++n) total[n] = partial[n * a.columns + i];
    put_sums(a, total, i);
  }
}

template <bool skip>
void run(const KernelArgs& a, MixNormGradients n) {
  constexpr int count = skip ? 3 : 2;
  with_row_shape(a, {n.u, n.x0, n.s, n.dm, n.dy, n.du.data, n.dx0.data, n.ds.data},
                 [&]<class T, int V, int C>(T, Constant<V>, Constant<C>) {
                   const auto stream = target(a).stream;
                   if constexpr (C > 0) {
                     constexpr int warps = warps_of(C, skip);
                     // Never more splits than those that were cut before, for which the workspace is made.
                     const std::int64_t share = (n.splits.rows + most_blocks - 1) / most_blocks;
                     n.splits.each = share > n.splits.each ? share : n.splits.each;
                     n.splits.count = blocks_for(n.splits.rows, n.splits.each);
                     kernel<T, C, skip><<<static_cast<unsigned>(n.splits.count), 32 * warps, 0, stream>>>(n);
                   } else {
                     any_row_kernel<T, skip><<<static_cast<unsigned>(n.splits.count), 32, 0, stream>>>(n);
                   }
                 });
  const std::int64_t stride = count * n.columns;
  sum_partials(target(a), n.partial, n.splits.count, stride, 2 * n.columns, nullptr, n.dmix);
  if (skip)
    sum_partials(target(a), n.partial + 2 * n.columns, n.splits.count, stride, n.columns, nullptr, n.dk);
}

}  // namespace

void mix_norm_backward(const KernelArgs& a) {
  const auto& op = static_cast<const MixNormBackward&>(a.op);
  MixNormGradients n;
  n.splits = split_rows_on_device(a.in[0].shape().rows());
  n.columns = a.in[0].shape().columns();
  n.scale = op.scale;
  n.prescaled = op.prescaled;
  n.u = data(a, 0);
  n.x0 = data(a, 1);
  n.mix = floats(a, 2);
  n.r = floats(a, 3);
  n.dm = data(a, 4);
  n.dy = data(a, 5);
  n.s = data(a, 6);
  n.k = floats(a, 7);
  n.du = output(a, 0);
  n.dx0 = output(a, 1);
  n.dmix = output(a, 2);
  n.ds = output(a, 3);
  n.dk = output(a, 4);
  n.partial = partials(a);
  if (!n.du && !n.dx0 && !n.ds && !n.dmix && !n.dk) return;
  if (n.s)
    run<true>(a, n);
  else
    run<false>(a, n);
}

}  // namespace fairway::ops::cuda
