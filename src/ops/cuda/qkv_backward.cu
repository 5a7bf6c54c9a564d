// From the gradients of q, k and v to that of the projection. With n = rms(raw) a head is q = gain rope(n),
// so with its gradient dq and c = (q . dq) / dh
//   d raw = rr (gain rope^-1(dq) - n (n . gain rope^-1(dq)) / dh) = rr rope^-1(gain dq - q c / gain)
// since a rotation changes no inner product; d gain = q . dq / gain. The projection itself is not read.
#include "cuda/qkv.cuh"

namespace fairway::ops::cuda {
namespace {

/// 1 / gain; of 0 it counts as 0: such a head has lost its direction.
__device__ inline float inverse_of(float gain) { return gain == 0 ? 0.0f : 1 / gain; }

__device__ inline float row_factor(const QkvGradients& g, std::int64_t row) {
  return g.row ? g.row_scale * g.row[row] : 1.0f;
}

/// A block's sum of one slot, from `count` numbers `stride` apart in that order: of a query head its gain's
/// gradient, of a value head dv . ve.
__device__ inline void keep_sum(const Qkv& a, const Slot& s, const QkvGradients& g, const float* sums,
                                int count, int stride) {
  if (s.slot >= a.heads && !s.is_value()) return;
  float total = 0;
  for (int i = 0; i < count; ++i) total += sums[i * stride];
  const int column = s.is_query() ? s.slot : s.slot - a.kv_heads;
  g.partial[blockIdx.x * (a.heads + a.kv_heads) + column] = total;
}

constexpr int together = 4;  // rows of a thread whose loads are in flight at once

/// Blocks of one kind of slots, `slots` from `first` on: `beside` of them share a block, which goes through
/// `rows` rows at a time; a group of lanes has the same slot of all its rows.
struct Share {
  int first, slots, beside, rows;
};

__device__ inline uint4 load_16(const void* p) { return *static_cast<const uint4*>(p); }
template <class T>
__device__ inline Floats<wide<T>> floats_of(const uint4& words) {
  return load<wide<T>>(reinterpret_cast<const T*>(&words));
}

/// Where a thread's rows lie: its group's first row of the block's piece, and its slot.
template <class T, int Lanes>
struct Seat {
  int group, lane, i;  ///< i: the lane's first element of a head
  bool present;
  Slot slot;
  int first, last;  ///< rows of the piece; `first` is the group's own
  __device__ Seat(const Qkv& a, const QkvGradients& g, const Share& share, int block)
      : group(static_cast<int>(threadIdx.x) / Lanes),
        lane(static_cast<int>(threadIdx.x) % Lanes),
        i(lane * wide<T>),
        present(group / share.beside < share.rows &&
                block * share.beside + group % share.beside < share.slots),
        slot(a, static_cast<unsigned>(share.first +
                                      min(block * share.beside + group % share.beside, share.slots - 1))),
        first(static_cast<int>(blockIdx.x * g.pieces.each) + group / share.beside),
        last(static_cast<int>(min((blockIdx.x + 1) * g.pieces.each, g.pieces.rows)) - 1) {}
};

/// The block's sum of each of its slots, of which a group's lane 0 has `sum`.
template <class T, int Lanes>
__device__ void finish_sums(const Qkv& a, const QkvGradients& g, const Share& share,
                            const Seat<T, Lanes>& seat, float sum) {
  __shared__ float sums[block_threads / Lanes];
  if (seat.lane == 0) sums[seat.group] = sum;
  __syncthreads();
  if (seat.lane == 0 && seat.present && seat.group < share.beside)
    keep_sum(a, seat.slot, g, sums + seat.group, share.rows, share.beside);
}

template <class T>
__device__ inline void put(T* to, bool add, Floats<wide<T>> x) {
  if (add) {
    const Floats<wide<T>> before = load<wide<T>>(to);
#pragma unroll
    for (int j = 0; j < wide<T>; ++j) x.v[j] += before.v[j];
  }
  store<wide<T>>(to, x);
}

/// Positions of rows that follow each other.
struct Position {
  int at, batch, length;
  __device__ Position(int row, std::int64_t length) : length(static_cast<int>(length)) {
    const Quotient q(row, length);
    at = static_cast<int>(q.rest), batch = static_cast<int>(q.whole);
  }
  __device__ void advance(int rows) {
    for (at += rows; at >= length; at -= length) ++batch;
  }
  __device__ const float* angles(const Qkv& a, Fault* fault) const {
    std::int64_t position = at;
    if (a.offset) {
      position += a.offset[batch];
      if (position < 0 || position >= a.positions) {
        note_fault(fault, Check::rope_position, position, a.positions);
        position = 0;
      }
    }
    return a.rope + position * a.rope_dims;
  }
};

template <class T, int Lanes>
__device__ void head_rows(const Qkv& a, const QkvGradients& g, const Share& share, int block, Fault* fault) {
  constexpr int V = wide<T>;
  const Seat<T, Lanes> seat(a, g, share, block);
  const Slot& s = seat.slot;
  const float gain = s.is_query() ? a.gain[s.slot] : 1.0f, inverse_gain = inverse_of(gain);
  const float by_dot = inverse_gain / static_cast<float>(a.head_dim);
  const int stride = (s.is_query() ? a.heads : a.kv_heads) * a.head_dim, sums = a.heads + a.kv_heads;
  const std::int64_t column = s.out_at(0) + seat.i;
  const T* const y = static_cast<const T*>(s.is_query() ? g.q : g.k) + column;
  const T* dy = static_cast<const T*>(s.is_query() ? g.dq : g.dk);
  const bool has_gradient = dy;
  dy = has_gradient ? dy + column : y;
  T* const dx = static_cast<T*>(g.dqkv.data) + (g.dqkv.data ? s.slot * a.head_dim + seat.i : 0);
  // Where this thread's part of a head is turned: with whose part, by which sign of the sine.
  const int pairs = a.rope_dims / 2;
  const bool turns = seat.i < a.rope_dims, lower = seat.i < pairs;
  const int pair = lower ? seat.i : seat.i - pairs;
  const int partner = !turns ? seat.lane : lower ? seat.lane + pairs / V : pair / V;
  const float sign = lower ? -1.0f : 1.0f;

  Position position(min(seat.first, seat.last), a.length);
  float sum = 0;
  for (int first = seat.first; first - seat.group / share.beside <= seat.last;
       first += together * share.rows) {
    uint4 ys[together], dys[together];
    float rr[together], factor[together];
#pragma unroll
    for (int u = 0; u < together; ++u) {
      const std::int64_t row = min(first + u * share.rows, seat.last);
      ys[u] = load_16(y + row * stride);
      dys[u] = load_16(dy + row * stride);
      rr[u] = g.rr[row * sums + s.slot];
      factor[u] = row_factor(g, row);
    }
#pragma unroll
    for (int u = 0; u < together; ++u) {
      const int row = first + u * share.rows;
      const bool active = seat.present && row <= seat.last;
      Floats<V> c = filled<V>(1), sine = filled<V>(0);
      if (turns && active) {
        const float* const angles = position.angles(a, fault);
        c = load<V>(angles + pair), sine = load<V>(angles + pairs + pair);
      }
      if (pairs > 0) position.advance(share.rows);
      if (!has_gradient) dys[u] = make_uint4(0, 0, 0, 0);
      Floats<V> x = floats_of<T>(dys[u]);
      const Floats<V> head = floats_of<T>(ys[u]);
      float dot = 0;
#pragma unroll
      for (int j = 0; j < V; ++j) dot += x.v[j] * head.v[j];
      dot = lane_sum(dot, Lanes);
      if (active) sum += dot;
      const float by = rr[u] * factor[u], by_dy = by * gain, by_y = by * by_dot * dot;
#pragma unroll
      for (int j = 0; j < V; ++j) x.v[j] = by_dy * x.v[j] - by_y * head.v[j];
      if (pairs > 0) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const float across = __shfl_sync(all_lanes, x.v[j], partner, Lanes);
          x.v[j] = x.v[j] * c.v[j] + sign * sine.v[j] * across;
        }
      }
      if (active && g.dqkv.data) put(dx + row * s.width, g.dqkv.add, x);
    }
  }
  finish_sums(a, g, share, seat, sum * inverse_gain);
}

template <class T, int Lanes>
__device__ void value_rows(const Qkv& a, const QkvGradients& g, const Share& share, int block) {
  constexpr int V = wide<T>;
  const Seat<T, Lanes> seat(a, g, share, block);
  const Slot& s = seat.slot;
  const std::int64_t column = s.out_at(0) + seat.i;
  const int stride = a.kv_heads * a.head_dim;
  const T* const dy = static_cast<const T*>(g.dv) + (g.dv ? column : 0);
  const bool sums = a.ve && g.dv && (g.dvs.data || g.dw.data), embeds = a.ve && g.dve.data;
  const T* const ve = static_cast<const T*>(a.ve) + (sums ? column : 0);
  const float scale = a.ve ? *a.w * *a.vs : 0.0f;
  T* const dx = static_cast<T*>(g.dqkv.data) + (g.dqkv.data ? s.slot * a.head_dim + seat.i : 0);
  T* const dve = static_cast<T*>(g.dve.data) + (embeds ? column : 0);
  float sum = 0;
  for (int first = seat.first; first - seat.group / share.beside <= seat.last;
       first += together * share.rows) {
    uint4 dys[together] = {}, ves[together] = {};
    float factor[together];
#pragma unroll
    for (int u = 0; u < together; ++u) {
      const std::int64_t row = min(first + u * share.rows, seat.last);
      if (g.dv) dys[u] = load_16(dy + row * stride);
      if (sums) ves[u] = load_16(ve + row * stride);
      factor[u] = row_factor(g, row);
    }
#pragma unroll
    for (int u = 0; u < together; ++u) {
      const std::int64_t row = first + u * share.rows;
      if (!seat.present || row > seat.last) continue;
      const Floats<V> d = floats_of<T>(dys[u]), e = floats_of<T>(ves[u]);
      Floats<V> x = d, to_e = d;
#pragma unroll
      for (int j = 0; j < V; ++j) {
        sum += d.v[j] * e.v[j];
        x.v[j] *= factor[u], to_e.v[j] *= scale;
      }
      if (g.dqkv.data) put(dx + row * s.width, g.dqkv.add, x);
      if (embeds) put(dve + row * stride, g.dve.add, to_e);
    }
  }
  finish_sums(a, g, share, seat, lane_sum(sum, Lanes));
}

/// Heads of Lanes times 16 bytes. Blocks up to y = head_blocks have queries and keys, those behind values.
template <class T, int Lanes>
__global__ void __launch_bounds__(block_threads, 2)
    backward_by_rows(Qkv a, QkvGradients g, Share heads, Share values, int head_blocks, Fault* fault) {
  const int block = static_cast<int>(blockIdx.y);
  if (block < head_blocks)
    head_rows<T, Lanes>(a, g, heads, block, fault);
  else
    value_rows<T, Lanes>(a, g, values, block - head_blocks);
}

/// One head of one position, element by element; gives q . dq (all lanes).
template <class T>
__device__ float head_gradient(const Qkv& a, float gain, const T* y, const T* dy, const float* rope, float by,
                               int lane, int lanes, bool active, const Out<T>& dx, std::int64_t at) {
  float dot = 0;
  for (int i = lane; i < a.head_dim; i += lanes) dot += widen(y[i]) * widen(dy[i]);
  dot = lane_sum(dot, lanes);
  if (!active) return 0;
  const float by_y = inverse_of(gain) * dot / static_cast<float>(a.head_dim);
  for (int i = lane; dx && i < a.head_dim; i += lanes) {
    const float u = turned<T, 1>(dy, rope, i, a.rope_dims, -1.0f).v[0];
    const float n = turned<T, 1>(y, rope, i, a.rope_dims, -1.0f).v[0];
    dx.put(at + i, by * (gain * u - by_y * n));
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
  const float gain = s.is_query() ? a.gain[s.slot] : 1.0f;
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
      const float dot = head_gradient<T>(a, gain, y + s.out_at(row), dy + s.out_at(row),
                                         rope_row(a, row, fault), by, lane, lanes, active, dx, at);
      if (lane == 0) sum += inverse_of(gain) * dot;
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
  const auto share = [](int first, int slots) {
    const int beside = slots < groups ? slots : groups;
    return Share{first, slots, beside, groups / beside};
  };
  const Share heads = share(0, a.heads + a.kv_heads), values = share(heads.slots, a.kv_heads);
  const unsigned head_blocks = blocks_for(heads.slots, heads.beside);
  const dim3 grid(static_cast<unsigned>(g.pieces.count),
                  head_blocks + blocks_for(values.slots, values.beside));
  backward_by_rows<T, Lanes>
      <<<grid, block_threads, 0, t.stream>>>(a, g, heads, values, static_cast<int>(head_blocks), t.fault);
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
