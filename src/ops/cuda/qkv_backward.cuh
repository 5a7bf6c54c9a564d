#pragma once
// From the gradients of q, k and v to that of the projection. With n = rms(raw) a head is q = gain rope(n),
// so with its gradient dq and c = (q . dq) / dh
//   d raw = rr (gain rope^-1(dq) - n (n . gain rope^-1(dq)) / dh) = rr rope^-1(gain dq - q c / gain)
// since a rotation changes no inner product; d gain = q . dq / gain. The projection itself is not read.
//
// A warp has the same four heads (of 64 bf16) in every second row of its block. Nothing but memory should
// cost time: 3 TB/s and 1.2 us from asking to having are 28 KB of loads on their way in each multiprocessor,
// all the time (Little's law); 32 warps with a row of 1 KB each have them. (Rows ahead in a ring in shared
// memory, by cp.async, are no faster: bench/cuda/NOTES.md.)
#include "cuda/qkv_backward_slots.cuh"

namespace fairway::ops::cuda::qkv_rows {

/// Blocks of the grid: four on each multiprocessor of an H100, so that no second wave runs half empty; the
/// cut is the shape's alone.
inline constexpr int resident = 4, most_blocks = 132 * resident;

/// Warps of a block: each has a set of neighbouring heads, 32 / Lanes of them, either of queries and keys or
/// of values, in every `shares`-th row of the block's split.
struct Sets {
  int heads, values;  ///< sets of each kind
  __host__ __device__ int count() const { return heads + values; }
  __host__ __device__ int shares() const { return block_warps / count(); }
};

/// A thread's place.
template <class T, int Lanes>
struct Seat {
  static constexpr int beside = 32 / Lanes;
  int set, share, group, lane, i;  ///< i: the lane's first element of a head
  bool value, present;
  Slot slot;
  int first, rows;  ///< the warp's first row and how many it has
  __device__ Seat(const Qkv& a, const QkvGradients& g, const Sets& sets)
      : Seat(a, g, sets, __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / 32, 0)) {}

 private:
  __device__ Seat(const Qkv& a, const QkvGradients& g, const Sets& sets, int warp)
      : set(warp % sets.count()),
        share(warp / sets.count()),
        group(static_cast<int>(threadIdx.x) % 32 / Lanes),
        lane(static_cast<int>(threadIdx.x) % Lanes),
        i(lane * wide<T>),
        value(set >= sets.heads),
        present((value ? set - sets.heads : set) * beside + group <
                (value ? a.kv_heads : a.heads + a.kv_heads)),
        slot(a, slot_of(a, sets)) {
    const int begin = static_cast<int>(blockIdx.x * g.splits.each);
    const int end = static_cast<int>(min(begin + g.splits.each, g.splits.rows));
    first = begin + share;
    rows = share < sets.shares() && first < end ? (end - first + sets.shares() - 1) / sets.shares() : 0;
  }
  /// Groups without a head read the last one's along.
  __device__ unsigned slot_of(const Qkv& a, const Sets& sets) const {
    const int heads = a.heads + a.kv_heads;
    const int at = value ? heads + min((set - sets.heads) * beside + group, a.kv_heads - 1)
                         : min(set * beside + group, heads - 1);
    return static_cast<unsigned>(at);
  }
};

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

template <class T>
__device__ inline void put(T* to, bool add, Floats<wide<T>> x) {
  if (add) x += load<wide<T>>(to);
  store<wide<T>>(to, x);
}

/// What a row of a head wants besides its elements.
template <int V>
struct Beside {
  float by;
  Floats<V> cos, sin;
};

/// Queries and keys: one warp's rows of one set.
template <class T, int Lanes>
class HeadRows {
  static constexpr int V = wide<T>;
  const Qkv& a_;
  const QkvGradients& g_;
  const Seat<T, Lanes>& seat_;
  Fault* fault_;
  const int shares_;
  const float gain_, scale_, by_dot_;
  const T *y_, *dy_;      // of the next row that is fetched
  std::int64_t step_;     // elements from a row of the warp to the next
  const float *rr_, *r_;  // of the next row to come
  float next_rr_ = 0, next_r_ = 1;
  T* dx_;
  std::int64_t dx_step_;
  Position position_;
  int pairs_, pair_, partner_;
  bool turns_, has_gradient_;
  float sign_;

 public:
  float sum = 0;  // of q . dq

  __device__ HeadRows(const Qkv& a, const QkvGradients& g, const Seat<T, Lanes>& seat, int shares,
                      Fault* fault)
      : a_(a),
        g_(g),
        seat_(seat),
        fault_(fault),
        shares_(shares),
        gain_(seat.slot.is_query() ? a.gain[seat.slot.slot] : 1.0f),
        scale_(g.row ? g.row_scale : 1.0f),
        by_dot_(inverse_of(gain_) / static_cast<float>(a.head_dim)),
        position_(seat.first, a.length) {
    const Slot& s = seat.slot;
    const std::int64_t at = s.out_at(seat.first) + seat.i, first = seat.first;
    y_ = static_cast<const T*>(s.is_query() ? g.q : g.k) + at;
    const T* const dy = static_cast<const T*>(s.is_query() ? g.dq : g.dk);
    has_gradient_ = dy;
    dy_ = has_gradient_ ? dy + at : y_;
    step_ = static_cast<std::int64_t>(shares) * (s.is_query() ? a.heads : a.kv_heads) * a.head_dim;
    rr_ = g.rr + first * (a.heads + a.kv_heads) + s.slot;
    r_ = g.row ? g.row + first : nullptr;
    dx_ = static_cast<T*>(g.dqkv.data) + (g.dqkv.data ? first * s.width + s.slot * a.head_dim + seat.i : 0);
    dx_step_ = shares * s.width;
    // Where this thread's part of a head is turned: with whose part, by which sign of the sine.
    pairs_ = a.rope_dims / 2;
    const bool lower = seat.i < pairs_;
    turns_ = seat.i < a.rope_dims;
    pair_ = lower ? seat.i : seat.i - pairs_;
    partner_ = !turns_ ? seat.lane : lower ? seat.lane + pairs_ / V : pair_ / V;
    sign_ = lower ? -1.0f : 1.0f;
  }
  __device__ float inverse_gain() const { return inverse_of(gain_); }

  __device__ void all() {
    fetch_factors(seat_.rows > 0);
    for (int k = 0; k < seat_.rows; ++k) {
      const uint4 y = fetch(y_), dy = fetch(dy_);
      y_ += step_, dy_ += step_;
      finish(y, dy, fetch_beside(k + 1 < seat_.rows));
    }
  }

 private:
  /// Of the next row, a step before its turn: like its elements they come from far away.
  __device__ void fetch_factors(bool any) {
    if (!any) return;
    next_rr_ = *rr_;
    rr_ += shares_ * (a_.heads + a_.kv_heads);
    if (r_) next_r_ = *r_, r_ += shares_;
  }

  /// Of the warp's next row; `more`: there is one after it.
  __device__ Beside<V> fetch_beside(bool more) {
    Beside<V> b{next_rr_ * next_r_, filled<V>(1), filled<V>(0)};
    fetch_factors(more);
    if (pairs_ > 0) {
      if (turns_) {
        const float* const angles = position_.angles(a_, fault_);
        b.cos = load<V>(angles + pair_), b.sin = load<V>(angles + pairs_ + pair_);
      }
      position_.advance(shares_);
    }
    return b;
  }

  __device__ void finish(const uint4& y, uint4 dy, const Beside<V>& beside) {
    if (!has_gradient_) dy = make_uint4(0, 0, 0, 0);
    Floats<V> x = floats_of<T>(dy);
    const Floats<V> head = floats_of<T>(y);
    float dot = 0;
#pragma unroll
    for (int j = 0; j < V; ++j) dot += x.v[j] * head.v[j];
    dot = lane_sum(dot, Lanes);
    sum += dot;
    const float by = scale_ * beside.by, by_dy = by * gain_, by_y = by * by_dot_ * dot;
#pragma unroll
    for (int j = 0; j < V; ++j) x.v[j] = by_dy * x.v[j] - by_y * head.v[j];
    if (pairs_ > 0) {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float across = __shfl_sync(all_lanes, x.v[j], partner_, Lanes);
        x.v[j] = x.v[j] * beside.cos.v[j] + sign_ * beside.sin.v[j] * across;
      }
    }
    if (seat_.present && g_.dqkv.data) put(dx_, g_.dqkv.add, x);
    dx_ += dx_step_;
  }
};

/// Values: one warp's rows of one set; gives the thread's part of the sum of dv . ve.
template <class T, int Lanes>
__device__ float value_rows(const Qkv& a, const QkvGradients& g, const Seat<T, Lanes>& seat, int shares) {
  constexpr int V = wide<T>, together = 4;
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
  for (int k = 0; k < seat.rows; k += together) {
    uint4 dys[together] = {}, ves[together] = {};
    float factor[together];
#pragma unroll
    for (int u = 0; u < together; ++u) {
      const std::int64_t row = seat.first + min(k + u, seat.rows - 1) * shares;
      if (g.dv) dys[u] = fetch(dy + row * stride);
      if (sums) ves[u] = fetch(ve + row * stride);
      factor[u] = row_factor(g, row);
    }
#pragma unroll
    for (int u = 0; u < together; ++u) {
      if (!seat.present || k + u >= seat.rows) continue;
      const std::int64_t row = seat.first + (k + u) * shares;
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
  return sum;
}

/// Heads of Lanes times 16 bytes.
template <class T, int Lanes>
__global__ void __launch_bounds__(block_threads, resident)
    backward_by_rows(Qkv a, QkvGradients g, Sets sets, Fault* fault) {
  __shared__ float sums[block_warps * 32 / Lanes];
  const Seat<T, Lanes> seat(a, g, sets);
  float sum;
  if (seat.value) {
    sum = lane_sum(value_rows(a, g, seat, sets.shares()), Lanes);
  } else {
    HeadRows<T, Lanes> rows(a, g, seat, sets.shares(), fault);
    rows.all();
    sum = rows.sum * rows.inverse_gain();
  }
  const int at = seat.set * seat.beside + seat.group, row = sets.count() * seat.beside;
  if (seat.lane == 0 && seat.share < sets.shares()) sums[seat.share * row + at] = sum;
  __syncthreads();
  if (seat.lane == 0 && seat.share == 0 && seat.present)
    keep_sum(a, seat.slot, g, sums + at, sets.shares(), row);
}

/// Does nothing and gives false where a block has no room for all heads.
template <class T, int Lanes>
bool launch_by_rows(const Target& t, const Qkv& a, const QkvGradients& g) {
  constexpr int beside = 32 / Lanes;
  const Sets sets{(a.heads + a.kv_heads + beside - 1) / beside, (a.kv_heads + beside - 1) / beside};
  if (sets.count() > block_warps) return false;
  backward_by_rows<T, Lanes>
      <<<static_cast<unsigned>(g.splits.count), block_threads, 0, t.stream>>>(a, g, sets, t.fault);
  return true;
}

/// At most so many splits.
inline void join_splits(RowSplits& p, int most) {
  const std::int64_t each = (p.rows + most - 1) / most;
  if (each <= p.each) return;
  p.each = each;
  p.count = (p.rows + each - 1) / each;
}

/// Activations are of type T.
template <class T>
void backward(const Target& t, const Qkv& a, QkvGradients g) {
  if (g.splits.rows == 0) return;
  join_splits(g.splits, most_blocks);
  constexpr int v = wide<T>;
  const bool in_rows =
      a.rope_dims % (2 * v) == 0 &&
      fits(a.head_dim, v, {g.q, g.k, g.dq, g.dk, g.dv, a.ve, a.rope, g.dqkv.data, g.dve.data});
  const bool done = in_rows && ((a.head_dim == 8 * v && launch_by_rows<T, 8>(t, a, g)) ||
                                (a.head_dim == 16 * v && launch_by_rows<T, 16>(t, a, g)));
  if (!done) {
    const dim3 grid(static_cast<unsigned>(g.splits.count), static_cast<unsigned>(a.heads + 2 * a.kv_heads));
    backward_by_slots<T><<<grid, block_threads, 0, t.stream>>>(a, g, lanes_for(a.head_dim, 1), t.fault);
  }
  sum_partials(t, g.partial, g.splits.count, a.heads + a.kv_heads, a.heads, nullptr, g.dgain);
  if (a.ve && (g.dvs || g.dw)) value_sums<<<1, block_threads, 0, t.stream>>>(a, g);
}

}  // namespace fairway::ops::cuda::qkv_rows
