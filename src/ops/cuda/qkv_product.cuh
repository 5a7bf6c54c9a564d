#pragma once
// The query/key/value product (fairway/ops/qkv_product.h): gemm_rows.cuh with norm, rotation, gain and
// value embedding as epilogue, so that the raw projection never exists in memory.
//
// 128 columns are two heads of 64, both of queries, of keys or of values. A row of a head lies in four lanes:
// its sum of squares takes two shuffles, and the two of a rotated pair are in one thread where rope_dims / 2
// is a multiple of 8.

#include "gemm_rows.cuh"

namespace fairway::ops::cuda::qkv {

/// Everything bf16 and aligned to 16 bytes but gain, rope, r, vs, w and rr, which are fp32.
/// qkv_product_fits(heads, kv_heads, 64, rope_dims, depth) must hold.
struct FusedQkv {
  int rows = 0, length = 0;  ///< position of a row: row % length
  int heads = 0, kv_heads = 0, rope_dims = 0;
  int depth = 0;  ///< columns of a
  float eps = 0, row_scale = 1;
  const void *a = nullptr, *weight = nullptr;
  const float *gain = nullptr, *rope = nullptr;
  const float* r = nullptr;  ///< null: the projection is a w^T, else row_scale r[row] (a w^T)
  const void* ve = nullptr;  ///< null: no value embedding
  const float *vs = nullptr, *w = nullptr;
  void *q = nullptr, *k = nullptr, *v = nullptr;  ///< each may be null
  float* rr = nullptr;                            ///< may be null
};

/// What a tile's epilogue wants from memory; loaded before the tile's products, which hide it. [0] belongs to
/// the thread's row of the accumulator's lower 8, [1] to the one of the upper 8.
template <int Chunks>
struct Ahead {
  rows::RowFactors::Two factor;
  float gain[2];                                                    ///< of the two heads; of values: vs w
  float2 cos[2][Chunks ? Chunks : 1], sin[2][Chunks ? Chunks : 1];  ///< of columns 8 c + 2 t, + 1
};

/// Chunks of 8 pairs are turned: rope_dims / 16.
template <int Chunks>
struct Epilogue {
  static constexpr bool weight_by_columns = false;
  CUtensorMap map_q, map_k, map_v, map_ve;
  rows::RowFactors factors;
  int rows, length, heads, kv_heads;
  float eps;
  const float *gain, *rope, *vs, *w;
  float* rr;
  bool embeds_values, store_q, store_k, store_v;

  __device__ int first_value() const { return heads + kv_heads; }

  template <class S>
  __device__ Ahead<Chunks> ahead(S& s, int slice, int row, int warp) const {
    const int lane = threadIdx.x % 32, head = 2 * slice;
    Ahead<Chunks> to{.factor = factors.ahead(row)};
    if (head >= first_value()) {
      if (embeds_values && lane == 0) rows::load_rows(s, &map_ve, head - first_value(), row, warp);
      __syncwarp();
      to.gain[0] = embeds_values ? *vs * *w : 0.0F;
    } else {
      to.gain[0] = head < heads ? gain[head] : 1.0F;
      to.gain[1] = head < heads ? gain[head + 1] : 1.0F;
    }
    if (head < first_value()) load_angles(to, row);
    return to;
  }
  /// Of the thread's two rows' positions.
  __device__ void load_angles(Ahead<Chunks>& to, int row) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int upper = 0; upper < (Chunks > 0 ? 2 : 0); ++upper) {
      const int at = min(row + 8 * upper + lane / 4, this->rows - 1);
      const unsigned position = static_cast<unsigned>(at) % static_cast<unsigned>(length);
      const float* const angles = rope + position * (16 * Chunks) + 2 * (lane % 4);
#pragma unroll
      for (int c = 0; c < Chunks; ++c) {
        to.cos[upper][c] = *reinterpret_cast<const float2*>(angles + 8 * c);
        to.sin[upper][c] = *reinterpret_cast<const float2*>(angles + 8 * (Chunks + c));
      }
    }
  }

  template <class S>
  __device__ void finish(S& s, float (&d)[64], const Ahead<Chunks>& ahead, int slice, int row, int warp,
                         std::uint32_t turn) const {
    const int head = 2 * slice;
    if (head >= first_value())
      finish_values(s, d, ahead, head - first_value(), row, warp, turn);
    else if (head >= heads)
      finish_heads(s, d, ahead, head, store_k ? &map_k : nullptr, head - heads, row, warp);
    else
      finish_heads(s, d, ahead, head, store_q ? &map_q : nullptr, head, row, warp);
  }

 private:
  /// Two heads of queries or keys; `place` is the first one's in `map`.
  template <class S>
  __device__ void finish_heads(S& s, float (&d)[64], const Ahead<Chunks>& ahead, int head,
                               const CUtensorMap* map, int place, int row, int warp) const {
    float inverse[2][2];  // 1 / rms of [head][row]
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        float squares = 0;
#pragma unroll
        for (int i = 32 * half + 2 * upper; i < 32 * half + 32; i += 4)
          squares += d[i] * d[i] + d[i + 1] * d[i + 1];
        squares += __shfl_xor_sync(0xFFFFFFFF, squares, 1);
        squares += __shfl_xor_sync(0xFFFFFFFF, squares, 2);
        const float f = factors.of(ahead.factor, upper);
        inverse[half][upper] = rsqrtf(f * f * (1.0F / 64) * squares + eps);
      }
      turn_pairs(d, ahead, half);
      const float by = ahead.gain[half];
      store_half(s, d, half, by * factors.of(ahead.factor, 0) * inverse[half][0],
                 by * factors.of(ahead.factor, 1) * inverse[half][1], map, place + half, row, warp);
    }
    const int lane = threadIdx.x % 32;
    if (!rr || lane % 4 != 0) return;
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      const int at = row + 8 * upper + lane / 4;
      if (at < this->rows)
        *reinterpret_cast<float2*>(rr + static_cast<std::int64_t>(at) * first_value() + head) =
            make_float2(inverse[0][upper], inverse[1][upper]);
    }
  }

  /// Pairs (i, i + 8 Chunks) of a head: p cos + r sin, r cos - p sin.
  static __device__ void turn_pairs(float (&d)[64], const Ahead<Chunks>& ahead, int half) {
#pragma unroll
    for (int c = 0; c < Chunks; ++c)
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const float2 cos = ahead.cos[upper][c], sin = ahead.sin[upper][c];
        float* const p = d + 32 * half + 4 * c + 2 * upper;
        float* const q = p + 4 * Chunks;
        const float p0 = p[0], p1 = p[1];
        p[0] = p0 * cos.x + q[0] * sin.x;
        p[1] = p1 * cos.y + q[1] * sin.y;
        q[0] = q[0] * cos.x - p0 * sin.x;
        q[1] = q[1] * cos.y - p1 * sin.y;
      }
  }

  /// One head, times a factor for each of the thread's rows, to memory.
  template <class S>
  static __device__ void store_half(S& s, const float (&d)[64], int half, float lower, float upper,
                                    const CUtensorMap* map, int place, int row, int warp) {
    if (!map) return;
    const bool leader = threadIdx.x % 32 == 0;
    if (leader) bulk_wait_read_but<1>();  // the other half's store may go on
    __syncwarp();
    const std::uint32_t to = shared_address(s.rows[warp][half]);
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      const float* const x = d + 32 * half + 4 * j;
      store_matrices(rows::matrices_at(to, j), pack(x[0] * lower, x[1] * lower),
                     pack(x[2] * upper, x[3] * upper), pack(x[4] * lower, x[5] * lower),
                     pack(x[6] * upper, x[7] * upper));
    }
    send(map, s.rows[warp][half], place, row);
  }
  static __device__ void send(const CUtensorMap* map, const void* from, int place, int row) {
    fence_async();
    __syncwarp();
    if (threadIdx.x % 32 != 0) return;
    store_tile(map, from, place, row, 0);
    bulk_commit();
  }

  /// Two heads of values; `place` is the first one's. With a value embedding its tile becomes the tile of
  /// values in its place.
  template <class S>
  __device__ void finish_values(S& s, const float (&d)[64], const Ahead<Chunks>& ahead, int place, int row,
                                int warp, std::uint32_t turn) const {
    const float factor[2] = {factors.of(ahead.factor, 0), factors.of(ahead.factor, 1)};
    const float scale = ahead.gain[0];
    if (embeds_values) {
      s.rows_full[warp].wait(turn);
      rows::rewrite_rows(s, warp, d, [&](std::uint32_t e, const float* v, int upper) {
        return pack(v[0] * factor[upper] + scale * rows::low(e),
                    v[1] * factor[upper] + scale * rows::high(e));
      });
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (embeds_values)
        send(&map_v, s.rows[warp][half], place + half, row);
      else
        store_half(s, d, half, factor[0], factor[1], store_v ? &map_v : nullptr, place + half, row, warp);
  }
};

template <int Groups, int Stages, int Chunks>
cudaError_t launch(const FusedQkv& a, cudaStream_t stream) {
  Epilogue<Chunks> e{.factors = {a.r, a.rows, a.row_scale},
                     .rows = a.rows,
                     .length = a.length,
                     .heads = a.heads,
                     .kv_heads = a.kv_heads,
                     .eps = a.eps,
                     .gain = a.gain,
                     .rope = a.rope,
                     .vs = a.vs,
                     .w = a.w,
                     .rr = a.rr,
                     .embeds_values = a.ve != nullptr && a.v != nullptr,
                     .store_q = a.q != nullptr,
                     .store_k = a.k != nullptr,
                     .store_v = a.v != nullptr};
  cudaError_t error = cudaSuccess;
  // A map needs an address, also where nothing is read or stored.
  const auto map = [&](CUtensorMap& to, const void* p, int heads) {
    if (error == cudaSuccess) error = make_tile_map(to, p ? p : a.a, 1, a.rows, p ? heads : a.depth / 64, 16);
  };
  map(e.map_q, a.q, a.heads);
  map(e.map_k, a.k, a.kv_heads);
  map(e.map_v, a.v, a.kv_heads);
  map(e.map_ve, a.ve, a.kv_heads);
  if (error != cudaSuccess) return error;
  return rows::launch<Groups, Stages>(a.rows, (a.heads + 2 * a.kv_heads) * 64, a.depth, a.a, a.weight, e,
                                      stream);
}

/// Groups warpgroups, Stages steps of `a` in flight.
template <int Groups, int Stages>
cudaError_t product(const FusedQkv& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  switch (a.heads % 2 || a.kv_heads % 2 ? -1 : a.rope_dims) {
    case 0:
      return launch<Groups, Stages, 0>(a, stream);
    case 16:
      return launch<Groups, Stages, 1>(a, stream);
    case 32:
      return launch<Groups, Stages, 2>(a, stream);
    case 64:
      return launch<Groups, Stages, 4>(a, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace fairway::ops::cuda::qkv
