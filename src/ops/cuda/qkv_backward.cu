// From the gradients of q, k and v to that of the projection. With n = rms(raw) a head is q = gain rope(n),
// so with its gradient dq and c = (q . dq) / dh
//   d raw = rr (gain rope^-1(dq) - n (n . gain rope^-1(dq)) / dh) = rr rope^-1(gain dq - q c / gain)
// since a rotation changes no inner product; d gain = q . dq / gain. The projection itself is not read.
#include "cuda/qkv.cuh"

namespace fairway::ops::cuda {
namespace {

/// What all rows of one head share.
struct Head {
  float gain = 1, inverse_gain = 1;  ///< 1 / 0 counts as 0: such a head has lost its direction
  __device__ Head(const Qkv& a, const Slot& s) {
    if (!s.is_query()) return;
    gain = a.gain[s.slot];
    inverse_gain = gain == 0 ? 0 : 1 / gain;
  }
};

__device__ inline float row_factor(const QkvGradients& g, std::int64_t row) {
  return g.row ? g.row_scale * g.row[row] : 1.0f;
}

/// The blocks' sums of one slot, the threads' added in their order: of a query head its gain's gradient, of a
/// value head dv . ve. `rows` threads have the slot's sums, `stride` apart, the first of them being this one.
__device__ inline void keep_sum(const Qkv& a, const Slot& s, const QkvGradients& g, const float* sums,
                                int rows, int stride) {
  if (s.slot >= a.heads && !s.is_value()) return;
  float total = 0;
  for (int i = 0; i < rows; ++i) total += sums[i * stride];
  const int column = s.is_query() ? s.slot : s.slot - a.kv_heads;
  g.partial[blockIdx.x * (a.heads + a.kv_heads) + column] = total;
}

constexpr int together = 4;  // rows of a thread whose loads are in flight at once

/// How a block's groups of lanes share rows: `slots` neighbouring heads of `rows` rows at a time.
struct Split {
  int slots, rows;
};

/// 16 bytes of y and of dy for each of a thread's rows, and the factors of those rows.
struct Loaded {
  uint4 y[together], dy[together];
  float rr[together], factor[together];
};

/// Heads of Lanes times 16 bytes: each thread has the same part of the same head of all its rows.
template <class T, int Lanes>
__global__ void __launch_bounds__(block_threads, 2)
    backward_by_rows(Qkv a, QkvGradients g, Split split, Fault* fault) {
  constexpr int V = wide<T>, groups = block_threads / Lanes;
  __shared__ float sums[groups];
  const int group = threadIdx.x / Lanes, lane = threadIdx.x % Lanes, i = lane * V;
  const int slots = a.heads + 2 * a.kv_heads, wanted = blockIdx.y * split.slots + group % split.slots;
  const bool present = group / split.slots < split.rows && wanted < slots;
  const Slot s(a, min(wanted, slots - 1));
  const Head head(a, s);
  const bool values = s.is_value(), embeds = values && a.ve;
  const T* const y = static_cast<const T*>(values ? a.ve : s.is_query() ? g.q : g.k);
  const T* const dy = static_cast<const T*>(values ? g.dv : s.is_query() ? g.dq : g.dk);
  const Out<T> dx{static_cast<T*>(g.dqkv.data), g.dqkv.add};
  const Out<T> dve{embeds ? static_cast<T*>(g.dve.data) : nullptr, g.dve.add};
  const bool reads_y = dy && (values ? embeds && (g.dvs.data || g.dw.data) : true);
  const float value_scale = embeds ? *a.w * *a.vs : 0.0f;
  // Where this thread's part of a head is turned: with whose part, by which sign of the sine.
  const int pairs = a.rope_dims / 2;
  const bool turns = !values && i < a.rope_dims, lower = i < pairs;
  const int pair = lower ? i : i - pairs, partner = turns ? (lower ? lane + pairs / V : pair / V) : lane;

  const std::int64_t begin = blockIdx.x * g.pieces.each, end = min(begin + g.pieces.each, g.pieces.rows);
  float sum = 0;
  for (std::int64_t step = begin; step < end; step += together * split.rows) {
    const std::int64_t first = step + group / split.slots;
    const auto active = [&](int u) { return present && first + u * split.rows < end; };
    Loaded l;
#pragma unroll
    for (int u = 0; u < together; ++u) {
      const std::int64_t row = first + u * split.rows;
      l.y[u] = l.dy[u] = make_uint4(0, 0, 0, 0);
      l.rr[u] = l.factor[u] = 1;
      if (!active(u)) continue;
      if (reads_y) l.y[u] = *reinterpret_cast<const uint4*>(y + s.out_at(row) + i);
      if (dy) l.dy[u] = *reinterpret_cast<const uint4*>(dy + s.out_at(row) + i);
      if (!values) l.rr[u] = g.rr[row * (a.heads + a.kv_heads) + s.slot];
      l.factor[u] = row_factor(g, row);
    }
#pragma unroll
    for (int u = 0; u < together; ++u) {
      const std::int64_t row = first + u * split.rows, at = row * s.width + s.slot * a.head_dim + i;
      Floats<V> x = load<V>(reinterpret_cast<const T*>(&l.dy[u]));
      const Floats<V> other = load<V>(reinterpret_cast<const T*>(&l.y[u]));
      float dot = 0;
#pragma unroll
      for (int j = 0; j < V; ++j) dot += x.v[j] * other.v[j];
      if (values) {
        sum += dot;
        if (active(u)) {
          Floats<V> e = x;
#pragma unroll
          for (int j = 0; j < V; ++j) x.v[j] *= l.factor[u], e.v[j] *= value_scale;
          dx.put(at, x);
          dve.put(s.out_at(row) + i, e);
        }
      }
      dot = lane_sum(dot, Lanes);
      if (!values) {
        sum += dot;
        const float by_y = head.inverse_gain * dot / static_cast<float>(a.head_dim);
#pragma unroll
        for (int j = 0; j < V; ++j) x.v[j] = head.gain * x.v[j] - by_y * other.v[j];
      }
      if (pairs > 0) {
        Floats<V> c = filled<V>(1), sine = filled<V>(0);
        if (turns && active(u)) {
          const float* const rope = rope_row(a, row, fault);
          c = load<V>(rope + pair), sine = load<V>(rope + pairs + pair);
        }
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const float across = __shfl_sync(all_lanes, x.v[j], partner, Lanes) * sine.v[j];
          x.v[j] = x.v[j] * c.v[j] + (lower ? -across : across);
        }
      }
      if (!values && active(u)) {
        const float by = l.rr[u] * l.factor[u];
#pragma unroll
        for (int j = 0; j < V; ++j) x.v[j] *= by;
        dx.put(at, x);
      }
    }
  }
  const float over_lanes = lane_sum(sum, Lanes);  // of values each lane has its part, of heads the whole
  if (lane == 0) sums[group] = values ? over_lanes : sum * head.inverse_gain;
  __syncthreads();
  if (lane == 0 && present && group < split.slots) keep_sum(a, s, g, sums + group, split.rows, split.slots);
}

/// One head of one position, element by element; gives q . dq (all lanes).
template <class T>
__device__ float head_gradient(const Qkv& a, const Head& head, const T* y, const T* dy, const float* rope,
                               float by, int lane, int lanes, bool active, const Out<T>& dx,
                               std::int64_t at) {
  float dot = 0;
  for (int i = lane; i < a.head_dim; i += lanes) dot += widen(y[i]) * widen(dy[i]);
  dot = lane_sum(dot, lanes);
  if (!active) return 0;
  const float by_y = head.inverse_gain * dot / static_cast<float>(a.head_dim);
  for (int i = lane; dx && i < a.head_dim; i += lanes) {
    const float u = turned<T, 1>(dy, rope, i, a.rope_dims, -1.0f).v[0];
    const float n = turned<T, 1>(y, rope, i, a.rope_dims, -1.0f).v[0];
    dx.put(at + i, by * (head.gain * u - by_y * n));
  }
  return dot;
}

template <class T>
__device__ float value_gradient(const Qkv& a, const Slot& s, const QkvGradients& g, std::int64_t row,
                                int lane, int lanes, const Out<T>& dx, std::int64_t at) {
  const float scale = a.ve ? *a.w * *a.vs : 0.0f, factor = row_factor(g, row);
  const bool wants_sum = a.ve && (g.dvs.data || g.dw.data);
  const Out<T> dve{static_cast<T*>(g.dve.data), g.dve.add};
  const std::int64_t from = s.out_at(row);
  float dot = 0;
  for (int i = lane; i < a.head_dim; i += lanes) {
    const float d = g.dv ? widen(static_cast<const T*>(g.dv)[from + i]) : 0.0f;
    dx.put(at + i, factor * d);
    if (wants_sum) dot += d * widen(static_cast<const T*>(a.ve)[from + i]);
    dve.put(from + i, scale * d);
  }
  return dot;
}

/// Heads of any width: a block has one slot of a piece's rows.
template <class T>
__global__ void __launch_bounds__(block_threads)
    backward_by_slots(Qkv a, QkvGradients g, int lanes, Fault* fault) {
  const Slot s(a, blockIdx.y);
  const Head head(a, s);
  const int lane = threadIdx.x % lanes, groups = block_threads / lanes;
  const std::int64_t begin = blockIdx.x * g.pieces.each, end = min(begin + g.pieces.each, g.pieces.rows);
  const Out<T> dx{static_cast<T*>(g.dqkv.data), g.dqkv.add};
  const T* const y = static_cast<const T*>(s.is_query() ? g.q : g.k);
  const T* const dy = static_cast<const T*>(s.is_query() ? g.dq : g.dk);
  float sum = 0;
  for (std::int64_t first = begin; first < end; first += groups) {
    const std::int64_t wanted = first + threadIdx.x / lanes;
    const bool active = wanted < end;
    const std::int64_t row = active ? wanted : end - 1, at = row * s.width + s.slot * a.head_dim;
    if (s.is_value()) {
      if (active) sum += value_gradient<T>(a, s, g, row, lane, lanes, dx, at);
    } else if (dy) {
      const float by = g.rr[row * (a.heads + a.kv_heads) + s.slot] * row_factor(g, row);
      const float dot = head_gradient<T>(a, head, y + s.out_at(row), dy + s.out_at(row),
                                         rope_row(a, row, fault), by, lane, lanes, active, dx, at);
      if (lane == 0) sum += head.inverse_gain * dot;
    } else if (active) {
      for (int i = lane; i < a.head_dim; i += lanes) dx.put(at + i, 0.0f);
    }
  }
  __shared__ float sums[block_warps];
  sum = lane_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) keep_sum(a, s, g, sums, block_warps, 1);
}

/// dvs = w sum, dw = vs sum, over all partial sums of the values' columns. One block.
__global__ void value_sums(Qkv a, QkvGradients g) {
  __shared__ float sums[block_threads];
  float sum = 0;
  const std::int64_t stride = a.heads + a.kv_heads;
  for (std::int64_t p = threadIdx.x; p < g.pieces.count; p += block_threads)
    for (int h = 0; h < a.kv_heads; ++h) sum += g.partial[p * stride + a.heads + h];
  sums[threadIdx.x] = sum;
  for (int half = block_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  Out<float>{static_cast<float*>(g.dvs.data), g.dvs.add}.put(0, *a.w * sums[0]);
  Out<float>{static_cast<float*>(g.dw.data), g.dw.add}.put(0, *a.vs * sums[0]);
}

template <class T, int Lanes>
void launch_by_rows(const Target& t, const Qkv& a, const QkvGradients& g) {
  constexpr int groups = block_threads / Lanes;
  const int slots = a.heads + 2 * a.kv_heads, beside = slots < groups ? slots : groups;
  const dim3 grid(static_cast<unsigned>(g.pieces.count), blocks_for(slots, beside));
  backward_by_rows<T, Lanes><<<grid, block_threads, 0, t.stream>>>(a, g, {beside, groups / beside}, t.fault);
}

}  // namespace

void qkv_backward(const Target& t, Storage storage, const Qkv& a, const QkvGradients& g) {
  if (g.pieces.rows == 0) return;
  with_storage(storage, [&](auto zero) {
    using T = decltype(zero);
    constexpr int v = wide<T>;
    const bool in_rows =
        a.rope_dims % (2 * v) == 0 &&
        fits(a.head_dim, v, {g.q, g.k, g.dq, g.dk, g.dv, a.ve, a.rope, g.dqkv.data, g.dve.data});
    if (in_rows && a.head_dim == 8 * v)
      launch_by_rows<T, 8>(t, a, g);
    else if (in_rows && a.head_dim == 16 * v)
      launch_by_rows<T, 16>(t, a, g);
    else
      backward_by_slots<T>
          <<<dim3(static_cast<unsigned>(g.pieces.count), static_cast<unsigned>(a.heads + 2 * a.kv_heads)),
             block_threads, 0, t.stream>>>(a, g, lanes_for(a.head_dim, 1), t.fault);
  });
  sum_partials(t, g.partial, g.pieces.count, a.heads + a.kv_heads, a.heads, nullptr, g.dgain);
  if (a.ve && (g.dvs || g.dw)) value_sums<<<1, block_threads, 0, t.stream>>>(a, g);
}

}  // namespace fairway::ops::cuda
