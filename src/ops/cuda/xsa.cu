// Exclusive self attention: groups of lanes as in qkv.cu. Heads whose columns are one vector a lane (64
// columns) go through kernels that fetch everything before the first sum and whose neighbouring lanes take
// neighbouring heads; the others through loops.
#include "attention_tiling.h"
#include "cuda/launch.cuh"
#include "fairway/ops/attention.h"

namespace fairway::ops::cuda {
namespace {

constexpr float shortest = 1e-12f;  // |v| below counts as this, as in the published models

struct XsaShape {
  std::int64_t batch = 0, queries = 0, positions = 0;
  int heads = 0, kv_heads = 0, head_dim = 0;
};

/// y = o - (o . n) n for one head of one position.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward(XsaShape a, int lanes, const T* o, const T* v, Out<T> y) {
  const int head = blockIdx.y, lane = threadIdx.x % lanes, dh = a.head_dim, group = a.heads / a.kv_heads;
  const std::int64_t rows = a.batch * a.queries;
  const std::int64_t wanted =
      static_cast<std::int64_t>(blockIdx.x) * (block_threads / lanes) + threadIdx.x / lanes;
  const std::int64_t row = wanted < rows ? wanted : rows - 1;
  const Quotient q(row, a.queries);
  const std::int64_t position = q.rest + a.positions - a.queries;
  const std::int64_t at = (row * a.heads + head) * dh;
  const T* vv = v + ((q.whole * a.positions + position) * a.kv_heads + head / group) * dh;
  float dot = 0, squares = 0;
  for (int i = lane * V; i < dh; i += lanes * V) {
    const Floats<V> x = load<V>(o + at + i), n = load<V>(vv + i);
#pragma unroll
    for (int j = 0; j < V; ++j) dot += x.v[j] * n.v[j], squares += n.v[j] * n.v[j];
  }
  dot = lane_sum(dot, lanes);
  const float longer = fmaxf(sqrtf(lane_sum(squares, lanes)), shortest), factor = dot / longer / longer;
  if (wanted >= rows) return;
  for (int i = lane * V; i < dh; i += lanes * V) {
    Floats<V> x = load<V>(o + at + i);
    const Floats<V> n = load<V>(vv + i);
#pragma unroll
    for (int j = 0; j < V; ++j) x.v[j] -= factor * n.v[j];
    y.put(at + i, x);
  }
}

/// What a group of lanes works on: head `head` of `heads` of row `row`, this lane's columns from i. Groups
/// past the end do the last one's work without storing it, because sums need all lanes.
struct Item {
  bool active;
  std::int64_t row;
  int head, i;
  __device__ Item(std::int64_t rows, int heads, int lanes, int v)
      : i(static_cast<int>(threadIdx.x) % lanes * v) {
    const std::int64_t wanted =
        static_cast<std::int64_t>(blockIdx.x) * (block_threads / lanes) + threadIdx.x / lanes;
    active = wanted < rows * heads;
    const Quotient q(active ? wanted : rows * heads - 1, heads);
    row = q.whole, head = static_cast<int>(q.rest);
  }
};

template <int V>
__device__ float dot(const Floats<V>& x, const Floats<V>& y) {
  float sum = 0;
#pragma unroll
  for (int j = 0; j < V; ++j) sum += x.v[j] * y.v[j];
  return sum;
}

/// forward for heads of lanes * V columns.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward_whole(XsaShape a, int lanes, const T* o, const T* v, Out<T> y) {
  const Item t(a.batch * a.queries, a.heads, lanes, V);
  const Quotient q(t.row, a.queries);
  const std::int64_t v_row = q.whole * a.positions + q.rest + a.positions - a.queries;
  const std::int64_t at = (t.row * a.heads + t.head) * a.head_dim + t.i;
  const int kv_head = t.head / (a.heads / a.kv_heads);
  Floats<V> x = load<V>(o + at);
  const Floats<V> n = load<V>(v + (v_row * a.kv_heads + kv_head) * a.head_dim + t.i);
  const float along = lane_sum(dot(x, n), lanes);
  const float longer = fmaxf(sqrtf(lane_sum(dot(n, n), lanes)), shortest), factor = along / longer / longer;
  if (!t.active) return;
#pragma unroll
  for (int j = 0; j < V; ++j) x.v[j] -= factor * n.v[j];
  y.put(at, x);
}

/// With c = 1 / max(|v|, shortest), n = c v: do = dy - (dy . n) n; dv = c (dn - (dn . n) n),
/// dn = -sum_h ((o . n) dy + (dy . n) o), so (dn . n) = -2 sum_h (o . n)(dy . n). One KV head of one
/// position.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    backward(XsaShape a, int lanes, const T* o, const T* v, const T* dy, Out<T> d_o, Out<T> dv) {
  const int kv_head = blockIdx.y, lane = threadIdx.x % lanes, dh = a.head_dim, group = a.heads / a.kv_heads;
  const std::int64_t rows = a.batch * a.positions, skip = a.positions - a.queries;
  const std::int64_t wanted =
      static_cast<std::int64_t>(blockIdx.x) * (block_threads / lanes) + threadIdx.x / lanes;
  const bool active = wanted < rows;
  const std::int64_t row = active ? wanted : rows - 1;
  const Quotient q(row, a.positions);
  const std::int64_t position = q.rest;
  const std::int64_t v_at = (row * a.kv_heads + kv_head) * dh;
  const bool has_query = position >= skip;
  const std::int64_t query = q.whole * a.queries + (has_query ? position - skip : 0);
  const auto at = [&](int g) { return (query * a.heads + kv_head * group + g) * dh; };
  float squares = 0;
  for (int i = lane * V; i < dh; i += lanes * V) {
    const Floats<V> n = load<V>(v + v_at + i);
#pragma unroll
    for (int j = 0; j < V; ++j) squares += n.v[j] * n.v[j];
  }
  const float norm = sqrtf(lane_sum(squares, lanes)), c = 1.0f / fmaxf(norm, shortest);
  float o_n[xsa_largest_group], dy_n[xsa_largest_group], products = 0;
  for (int g = 0; g < group; ++g) {
    float with_o = 0, with_dy = 0;
    for (int i = lane * V; i < dh; i += lanes * V) {
      const Floats<V> n = load<V>(v + v_at + i), x = load<V>(o + at(g) + i), d = load<V>(dy + at(g) + i);
#pragma unroll
      for (int j = 0; j < V; ++j) with_o += x.v[j] * n.v[j], with_dy += d.v[j] * n.v[j];
    }
    o_n[g] = lane_sum(with_o, lanes) * c;
    dy_n[g] = lane_sum(with_dy, lanes) * c;
    products += o_n[g] * dy_n[g];
  }
  if (!active) return;
  const bool flows = has_query && norm > shortest;
  for (int i = lane * V; i < dh; i += lanes * V) {
    const Floats<V> n = load<V>(v + v_at + i);
    Floats<V> total = filled<V>(0);
    for (int g = 0; has_query && g < group; ++g) {
      const Floats<V> x = load<V>(o + at(g) + i);
      Floats<V> d = load<V>(dy + at(g) + i);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        total.v[j] -= o_n[g] * d.v[j] + dy_n[g] * x.v[j];
        d.v[j] -= dy_n[g] * c * n.v[j];
      }
      d_o.put(at(g) + i, d);  // may lie over dy: nobody reads this element again
    }
#pragma unroll
    for (int j = 0; j < V; ++j) total.v[j] = flows ? c * (total.v[j] + 2 * products * c * n.v[j]) : 0.0f;
    dv.put(v_at + i, total);
  }
}

/// backward for heads of lanes * V columns, `group` of them for each KV head.
template <class T, int V, int group>
__global__ void __launch_bounds__(block_threads)
    backward_whole(XsaShape a, int lanes, const T* o, const T* v, const T* dy, Out<T> d_o, Out<T> dv) {
  const std::int64_t skip = a.positions - a.queries;
  const Item t(a.batch * a.positions, a.kv_heads, lanes, V);
  const Quotient q(t.row, a.positions);
  const bool has_query = q.rest >= skip;
  const std::int64_t query = q.whole * a.queries + (has_query ? q.rest - skip : 0);
  const std::int64_t v_at = (t.row * a.kv_heads + t.head) * a.head_dim + t.i;
  const std::int64_t at = (query * a.heads + t.head * group) * a.head_dim + t.i;
  const Floats<V> n = load<V>(v + v_at);
  Floats<V> x[group], d[group];
#pragma unroll
  for (int g = 0; g < group; ++g)
    x[g] = load<V>(o + at + g * a.head_dim), d[g] = load<V>(dy + at + g * a.head_dim);
  const float norm = sqrtf(lane_sum(dot(n, n), lanes)), c = 1.0f / fmaxf(norm, shortest);
  float o_n[group], dy_n[group], products = 0;
#pragma unroll
  for (int g = 0; g < group; ++g) {
    o_n[g] = lane_sum(dot(x[g], n), lanes) * c;
    dy_n[g] = lane_sum(dot(d[g], n), lanes) * c;
    products += o_n[g] * dy_n[g];
  }
  if (!t.active) return;
  const bool flows = has_query && norm > shortest;
  Floats<V> total = filled<V>(0);
#pragma unroll
  for (int g = 0; g < group; ++g) {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      total.v[j] -= o_n[g] * d[g].v[j] + dy_n[g] * x[g].v[j];
      d[g].v[j] -= dy_n[g] * c * n.v[j];
    }
    if (has_query) d_o.put(at + g * a.head_dim, d[g]);  // may lie over dy, which is read
  }
#pragma unroll
  for (int j = 0; j < V; ++j) total.v[j] = flows ? c * (total.v[j] + 2 * products * c * n.v[j]) : 0.0f;
  dv.put(v_at, total);
}

XsaShape shape_of(const KernelArgs& a, const HeadShape& h) {
  const Shape& o = a.in[0].shape();
  return {o[0], o[1], a.in[1].shape()[1], h.heads, h.kv_heads, h.head_dim};
}

template <class F>
void with_heads(const KernelArgs& a, int head_dim, std::initializer_list<const void*> pointers, const F& f) {
  with_width(a, a.in[0], head_dim, pointers,
             [&]<class T, int V>(T zero, Constant<V> width) { f(zero, width, lanes_for(head_dim, V)); });
}

}  // namespace

void xsa(const KernelArgs& a) {
  const XsaShape s = shape_of(a, static_cast<const Xsa&>(a.op).shape);
  const std::int64_t rows = s.batch * s.queries;
  if (!a.out[0] || rows == 0) return;
  with_heads(
      a, s.head_dim, {data(a, 0), data(a, 1), a.out[0].data}, [&]<class T, int V>(T, Constant<V>, int lanes) {
        const auto run = [&](auto kernel, dim3 grid) {
          kernel<<<grid, block_threads, 0, target(a).stream>>>(s, lanes, in<T>(a, 0), in<T>(a, 1),
                                                               out<T>(a, 0));
        };
        if (lanes * V == s.head_dim)
          run(forward_whole<T, V>, blocks_for(rows * s.heads, block_threads / lanes));
        else
          run(forward<T, V>, {blocks_for(rows, block_threads / lanes), static_cast<unsigned>(s.heads)});
      });
}

void xsa_backward(const KernelArgs& a) {
  const XsaShape s = shape_of(a, static_cast<const XsaBackward&>(a.op).shape);
  const Output d_o = output(a, 0), dv = output(a, 1);
  const std::int64_t rows = s.batch * s.positions;
  if ((!d_o && !dv) || rows == 0) return;
  with_heads(a, s.head_dim, {data(a, 0), data(a, 1), data(a, 2), d_o.data, dv.data},
             [&]<class T, int V>(T, Constant<V>, int lanes) {
               const auto run = [&](auto kernel, dim3 grid) {
                 kernel<<<grid, block_threads, 0, target(a).stream>>>(s, lanes, in<T>(a, 0), in<T>(a, 1),
                                                                      in<T>(a, 2), out<T>(d_o), out<T>(dv));
               };
               const int group = lanes * V == s.head_dim ? s.heads / s.kv_heads : 0;
               const dim3 whole(blocks_for(rows * s.kv_heads, block_threads / lanes));
               switch (group) {
                 case 1:
                   return run(backward_whole<T, V, 1>, whole);
                 case 2:
                   return run(backward_whole<T, V, 2>, whole);
                 case 4:
                   return run(backward_whole<T, V, 4>, whole);
                 default:
                   return run(backward<T, V>,
                              {blocks_for(rows, block_threads / lanes), static_cast<unsigned>(s.kv_heads)});
               }
             });
}

}  // namespace fairway::ops::cuda
