// From the fused projection to attention's inputs. A group of lanes handles one head of one position; a block
// handles one head (grid x: queries, keys, values) of many positions.
#include "cuda/qkv_inputs.cuh"

namespace fairway::ops::cuda {
namespace {

constexpr int together = 4;  // rows of a group whose loads are in flight at once

/// A head of one row: y = factor rope(x), x read again (it is in the cache).
template <class T, int V>
__device__ void put_head(const Qkv& a, const T* x, float factor, std::int64_t row, int lane, int lanes,
                         Fault* fault, const Out<T>& y, std::int64_t at) {
  const float* rope = rope_row(a, row, fault);
  for (int i = lane * V; i < a.head_dim; i += lanes * V) {
    Floats<V> h = turned<T, V>(x, rope, i, a.rope_dims, 1.0f);
#pragma unroll
    for (int j = 0; j < V; ++j) h.v[j] *= factor;
    y.put(at + i, h);
  }
}

template <class T, int V>
__device__ void put_value(const Qkv& a, const T* x, float scale, int lane, int lanes, const Out<T>& v,
                          std::int64_t at) {
  for (int i = lane * V; i < a.head_dim; i += lanes * V) {
    Floats<V> raw = load<V>(x + i);
    if (a.ve) {
      const Floats<V> e = load<V>(static_cast<const T*>(a.ve) + at + i);
#pragma unroll
      for (int j = 0; j < V; ++j) raw.v[j] += scale * e.v[j];
    }
    v.put(at + i, raw);
  }
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward(Qkv a, int lanes, float eps, Fault* fault, Out<T> q, Out<T> k, Out<T> v, Out<float> r_out) {
  const Slot s(a, blockIdx.x);
  const std::int64_t rows = a.batch * a.length;
  const int groups = block_threads / lanes, lane = threadIdx.x % lanes, dh = a.head_dim;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * groups * together + threadIdx.x / lanes;
  const float value_scale = s.is_value() && a.ve ? *a.vs * *a.w : 0.0f;
  const float gain = s.is_query() ? a.gain[s.slot] : 1.0f;
  const auto row_at = [&](int u) { return min(first + u * groups, rows - 1); };  // shuffles need every lane
  const auto x_at = [&](int u) { return static_cast<const T*>(a.qkv) + row_at(u) * s.width + s.slot * dh; };
  if (s.is_value()) {
#pragma unroll
    for (int u = 0; u < together; ++u)
      if (first + u * groups < rows)
        put_value<T, V>(a, x_at(u), value_scale, lane, lanes, v, s.out_at(row_at(u)));
    return;
  }
  float squares[together] = {};
  for (int i = lane * V; i < dh; i += lanes * V) {
    Floats<V> raw[together];
#pragma unroll
    for (int u = 0; u < together; ++u) raw[u] = load<V>(x_at(u) + i);
#pragma unroll
    for (int u = 0; u < together; ++u)
#pragma unroll
      for (int j = 0; j < V; ++j) squares[u] += raw[u].v[j] * raw[u].v[j];
  }
  const Out<T>& y = s.is_query() ? q : k;
#pragma unroll
  for (int u = 0; u < together; ++u) {
    const float r = 1.0f / sqrtf(lane_sum(squares[u], lanes) / static_cast<float>(dh) + eps);
    if (first + u * groups >= rows) continue;
    const std::int64_t row = row_at(u);
    if (lane == 0) r_out.put(row * (a.heads + a.kv_heads) + s.slot, r);
    if (y) put_head<T, V>(a, x_at(u), gain * r, row, lane, lanes, fault, y, s.out_at(row));
  }
}

}  // namespace

void qkv_prepare(const KernelArgs& a) {
  const auto& op = static_cast<const QkvPrepare&>(a.op);
  Qkv n = qkv_inputs(a, a.in[0].shape(), op.shape, op.rope_dims, 1, op.value_embedding, 4);
  n.qkv = data(a, 0);
  const std::int64_t rows = n.batch * n.length;
  if (rows == 0) return;
  dispatch(a, a.in[0], [&]<class T>(T) {
    const bool whole =
        n.rope_dims % (2 * wide<T>) == 0 &&
        fits(n.head_dim, wide<T>, {n.qkv, n.rope, n.ve, a.out[0].data, a.out[1].data, a.out[2].data});
    const int lanes = lanes_for(n.head_dim, whole ? wide<T> : 1);
    // Heads first: blocks that run together read whole rows.
    const dim3 grid(static_cast<unsigned>(n.heads + 2 * n.kv_heads),
                    blocks_for(rows, std::int64_t{together} * (block_threads / lanes)));
    const auto kernel = whole ? forward<T, wide<T>> : forward<T, 1>;
    kernel<<<grid, block_threads, 0, target(a).stream>>>(n, lanes, op.eps, target(a).fault, out<T>(a, 0),
                                                         out<T>(a, 1), out<T>(a, 2), out<float>(a, 3));
  });
}

}  // namespace fairway::ops::cuda
