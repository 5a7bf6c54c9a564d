// Exclusive self attention and the gate of each head in one pass (gated_xsa.h). Eight lanes have a KV head of
// a row with its query heads, 8 columns each; the lanes of a row's KV heads stand side by side in a warp.
#include "fairway/ops/gated_xsa.h"

#include "cuda/launch.cuh"
#include "row_splits.h"

namespace fairway::ops::cuda {
namespace {

using bf16 = __nv_bfloat16;
constexpr float shortest = 1e-12f;  // |v| below counts as this, as in the published models
constexpr int head_dim = 64, head_lanes = 8, lane_channels = 2;
constexpr int blocks_at_once = 3;  ///< on a multiprocessor, of which there are some 130: one round of blocks

struct GatedXsaShape {
  std::int64_t queries, positions;
  int kv_heads, columns, channels;
  float scale, factor;
  __device__ int row_lanes() const { return head_lanes * kv_heads; }
};

__device__ float dot(const Floats<8>& x, const Floats<8>& y) {
  float sum = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) sum += x.v[j] * y.v[j];
  return sum;
}

/// What a lane has of a KV head of a row of n and v: its columns, its channels of the gates, and where its
/// query heads stand.
template <int G>
struct Lane {
  const GatedXsaShape& z;
  int in_row, kv_head, part;
  float w[G][lane_channels];
  __device__ Lane(const GatedXsaShape& shape, const float* weights) : z(shape) {
    in_row = static_cast<int>(threadIdx.x % 32) % z.row_lanes();
    kv_head = in_row / head_lanes, part = in_row % head_lanes;
#pragma unroll
    for (int g = 0; g < G; ++g)
#pragma unroll
      for (int e = 0; e < lane_channels; ++e)
        w[g][e] = has_channel(e) ? weights[(kv_head * G + g) * z.channels + channel(e)] : 0;
  }
  __device__ int channel(int e) const { return part + e * head_lanes; }
  __device__ bool has_channel(int e) const { return channel(e) < z.channels; }
  /// Rows that a block takes at once, and this lane's place among them.
  __device__ int rows_at_once() const { return block_threads / z.row_lanes(); }
  __device__ int slot() const { return static_cast<int>(threadIdx.x) / z.row_lanes(); }
  __device__ std::int64_t v_at(std::int64_t row) const {
    return (row * z.kv_heads + kv_head) * head_dim + part * 8;
  }
  __device__ std::int64_t o_at(std::int64_t o_row) const {
    return (o_row * z.kv_heads + kv_head) * G * head_dim + part * 8;
  }
  __device__ void load_channels(const bf16* n_row, float (&c)[lane_channels]) const {
#pragma unroll
    for (int e = 0; e < lane_channels; ++e) c[e] = has_channel(e) ? widen(n_row[channel(e)]) : 0;
  }
  /// sigmoid(scale w . n) of query head g.
  __device__ float open(int g, const float (&c)[lane_channels]) const {
    return sigmoid(z.scale * lane_sum(w[g][0] * c[0] + w[g][1] * c[1], head_lanes));
  }
};

template <int G>
__global__ void __launch_bounds__(block_threads)
    gated_xsa_kernel(GatedXsaShape z, std::int64_t rows, const bf16* o, const bf16* v, const bf16* n,
                     const float* w, Out<bf16> y) {
  const Lane<G> lane(z, w);
  const std::int64_t wanted = static_cast<std::int64_t>(blockIdx.x) * lane.rows_at_once() + lane.slot();
  const bool active = wanted < rows;
  const std::int64_t o_row = active ? wanted : rows - 1;
  const Quotient q(o_row, z.queries);
  const std::int64_t row = q.whole * z.positions + z.positions - z.queries + q.rest;
  const std::int64_t at = lane.o_at(o_row);
  uint4 x[G];
#pragma unroll
  for (int g = 0; g < G; ++g) x[g] = fetch(o + at + g * head_dim);
  const Floats<8> m = floats_of<bf16>(fetch(v + lane.v_at(row)));
  float c[lane_channels];
  lane.load_channels(n + row * z.columns, c);
  const float longer = fmaxf(sqrtf(lane_sum(dot(m, m), head_lanes)), shortest);
#pragma unroll
  for (int g = 0; g < G; ++g) {
    Floats<8> head = floats_of<bf16>(x[g]);
    const float along = lane_sum(dot(head, m), head_lanes) / longer / longer;
    const float gate = z.factor * lane.open(g, c);
#pragma unroll
    for (int j = 0; j < 8; ++j) head.v[j] = gate * (head.v[j] - along * m.v[j]);
    if (active) y.put(at + g * head_dim, head);
  }
}

/// dn of one row: sums of the row's heads on the gates' channels, zeros behind them.
template <int G>
__device__ void put_dn(const Lane<G>& lane, const Out<bf16>& dn, std::int64_t row,
                       const float (&sums)[lane_channels]) {
  const auto& z = lane.z;
  const std::int64_t at = row * z.columns;
#pragma unroll
  for (int e = 0; e < lane_channels; ++e)
    if (lane.kv_head == 0 && (lane.has_channel(e) || !dn.add)) dn.put(at + lane.channel(e), sums[e]);
  if (dn.add) return;
  for (int i = head_lanes * lane_channels + lane.in_row * 8; i < z.columns; i += z.row_lanes() * 8)
    store<8>(dn.p + at + i, filled<8>(0));
}

/// With x = o - (o . m) m: do = a (dy - (dy . m) m), k = scale a (1 - sigmoid) (x . dy); dv as in
/// XsaBackward from a dy, dn and dw as in HeadGateBackward from k.
template <int G>
__global__ void __launch_bounds__(block_threads, G == 4 ? 2 : blocks_at_once)
    gated_xsa_backward_kernel(GatedXsaShape z, RowSplits splits, const bf16* o, const bf16* v, const bf16* n,
                              const float* w, const bf16* dy, Out<bf16> d_o, Out<bf16> dv, Out<bf16> dn,
                              float* partial) {
  const Lane<G> lane(z, w);
  const std::int64_t first = blockIdx.x * splits.each, end = min(first + splits.each, splits.rows);
  float dw[G][lane_channels] = {};
  for (std::int64_t base = first; base < end; base += lane.rows_at_once()) {  // all lanes, for the sums
    const bool active = base + lane.slot() < end;
    const std::int64_t row = active ? base + lane.slot() : end - 1;
    const Quotient q(row, z.positions);
    const std::int64_t query = q.rest - (z.positions - z.queries);
    const bool has_query = query >= 0;
    const std::int64_t at = lane.o_at(q.whole * z.queries + (has_query ? query : 0));
    uint4 x[G], d[G];
#pragma unroll
    for (int g = 0; g < G; ++g) x[g] = fetch(o + at + g * head_dim), d[g] = fetch(dy + at + g * head_dim);
    const Floats<8> m = floats_of<bf16>(fetch(v + lane.v_at(row)));
    float c[lane_channels], to_n[lane_channels] = {};
    lane.load_channels(n + row * z.columns, c);
    const float norm = sqrtf(lane_sum(dot(m, m), head_lanes)), unit = 1.0f / fmaxf(norm, shortest);
    Floats<8> to_v = filled<8>(0);
    float products = 0;
#pragma unroll
    for (int g = 0; g < G; ++g) {
      const Floats<8> head = floats_of<bf16>(x[g]);
      Floats<8> grad = floats_of<bf16>(d[g]);
      const float o_m = lane_sum(dot(head, m), head_lanes) * unit;
      const float dy_m = lane_sum(dot(grad, m), head_lanes) * unit;
      const float along = lane_sum(dot(head, grad), head_lanes) - o_m * dy_m;
      const float open = lane.open(g, c), gate = z.factor * open;
      const float k = has_query && active ? z.scale * gate * (1 - open) * along : 0;
      products += gate * o_m * dy_m;
#pragma unroll
      for (int e = 0; e < lane_channels; ++e) {
        dw[g][e] += k * c[e];
        to_n[e] += k * lane.w[g][e];
      }
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        to_v.v[j] -= gate * (o_m * grad.v[j] + dy_m * head.v[j]);
        grad.v[j] = gate * (grad.v[j] - dy_m * unit * m.v[j]);
      }
      if (active && has_query) d_o.put(at + g * head_dim, grad);  // may lie over dy, which is read
    }
    const bool flows = has_query && norm > shortest;
#pragma unroll
    for (int j = 0; j < 8; ++j) to_v.v[j] = flows ? unit * (to_v.v[j] + 2 * products * unit * m.v[j]) : 0.0f;
    if (active) dv.put(lane.v_at(row), to_v);
#pragma unroll
    for (int e = 0; e < lane_channels; ++e)
      for (int half = z.row_lanes() / 2; half >= head_lanes; half /= 2)
        to_n[e] += __shfl_xor_sync(all_lanes, to_n[e], half);
    if (dn && active) put_dn(lane, dn, row, to_n);
  }
  if (!partial) return;
  // The block's sums, in the order of its slots.
  __shared__ float sums[block_threads * lane_channels];
#pragma unroll
  for (int g = 0; g < G; ++g) {
    __syncthreads();
#pragma unroll
    for (int e = 0; e < lane_channels; ++e) sums[threadIdx.x * lane_channels + e] = dw[g][e];
    __syncthreads();
    for (int i = threadIdx.x; i < z.kv_heads * z.channels; i += block_threads) {
      const int head = i / z.channels, channel = i % z.channels;
      const int at = head * head_lanes + channel % head_lanes;
      float total = 0;
      for (int slot = 0; slot < lane.rows_at_once(); ++slot)
        total += sums[(slot * z.row_lanes() + at) * lane_channels + channel / head_lanes];
      partial[(static_cast<std::int64_t>(blockIdx.x) * z.kv_heads * G + head * G + g) * z.channels +
              channel] = total;
    }
  }
}

template <class Op>
GatedXsaShape shape_of(const KernelArgs& a) {
  const auto& op = static_cast<const Op&>(a.op);
  const Shape &n = a.in[2].shape(), &w = a.in[3].shape();
  return {a.in[0].shape()[1],     n[1],     op.shape.kv_heads, static_cast<int>(n[2]),
          static_cast<int>(w[1]), op.scale, op.factor};
}

/// f(Constant<query heads of a KV head>{}).
template <class F>
void with_group(int group, const F& f) {
  if (group == 1) return f(Constant<1>{});
  if (group == 2) return f(Constant<2>{});
  f(Constant<4>{});
}

}  // namespace

void gated_xsa(const KernelArgs& a) {
  const auto z = shape_of<GatedXsa>(a);
  const std::int64_t rows = a.in[0].shape()[0] * z.queries;
  if (!a.out[0] || rows == 0) return;
  with_group(static_cast<int>(a.in[0].shape()[2]) / z.kv_heads, [&]<int G>(Constant<G>) {
    gated_xsa_kernel<G>
        <<<blocks_for(rows, block_threads / (head_lanes * z.kv_heads)), block_threads, 0, target(a).stream>>>(
            z, rows, in<bf16>(a, 0), in<bf16>(a, 1), in<bf16>(a, 2), floats(a, 3), out<bf16>(a, 0));
  });
}

void gated_xsa_backward(const KernelArgs& a) {
  const auto z = shape_of<GatedXsaBackward>(a);
  const std::int64_t heads = a.in[0].shape()[2];
  const RowSplits p = split_rows_on_device(a.in[2].shape().rows(), 128 * blocks_at_once);
  const Output dw = output(a, 3);
  if (p.rows > 0)
    with_group(static_cast<int>(heads) / z.kv_heads, [&]<int G>(Constant<G>) {
      gated_xsa_backward_kernel<G><<<static_cast<unsigned>(p.count), block_threads, 0, target(a).stream>>>(
          z, p, in<bf16>(a, 0), in<bf16>(a, 1), in<bf16>(a, 2), floats(a, 3), in<bf16>(a, 4), out<bf16>(a, 0),
          out<bf16>(a, 1), out<bf16>(a, 2), dw ? partials(a) : nullptr);
    });
  const std::int64_t width = heads * z.channels;
  sum_partials(target(a), partials(a), p.count, width, width, nullptr, dw);
}

}  // namespace fairway::ops::cuda
