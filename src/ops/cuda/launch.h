#pragma once
// The kernels as seen from the host: raw pointers and sizes, nothing of the operator classes, so that nvcc
// reads little. Each launcher queues its work on `Target::stream`, allocates nothing, synchronises nothing
// and can be captured. Contracts (formulas, what may be absent) stand in the operators' headers; pointers
// that may be absent are null. Sums are in fp32 in an order that the shape alone decides.

#include <cuda_runtime_api.h>

#include <cstdint>

namespace fairway::ops::cuda {

/// What activations are stored as. Parameters of channels or heads, rope tables, r, lse and nll are always
/// fp32.
enum class Storage : std::uint8_t { f32, bf16 };

/// Which check a kernel's index failed.
enum class Check : std::int32_t { none, gather_row, rope_position, target, cache_room };

/// The first index that any kernel found outside its range; lives on the device. Kernels go on with index 0.
struct Fault {
  std::int32_t check, index, limit, taken;
};

struct Target {
  cudaStream_t stream = nullptr;
  Fault* fault = nullptr;
};

/// An output, or nothing when nobody wants it.
struct Output {
  void* data = nullptr;
  bool add = false;  ///< add to what is there
  explicit operator bool() const { return data != nullptr; }
};

/// Rows cut into pieces, each with partial sums of its own.
struct Pieces {
  std::int64_t rows = 0, each = 0, count = 0;
};

// elementwise.cu
void add(const Target&, Storage, std::int64_t n, const void* a, const void* b, Output y);
void copy(const Target&, Storage, std::int64_t n, const void* x, Output y);
void copy_integers(const Target&, std::int64_t n, const std::int32_t* x, Output y);
void leaky_relu_squared(const Target&, Storage, std::int64_t n, float slope, const void* x, Output y);
void leaky_relu_squared_backward(const Target&, Storage, std::int64_t n, float slope, const void* x,
                                 const void* dy, Output dx);
void softcap(const Target&, Storage, std::int64_t n, float cap, const void* x, Output y);
void weighted_sum(const Target&, std::int64_t n, const float* x, const float* w, Output loss);
void weighted_sum_backward(const Target&, std::int64_t n, const float* w, const float* dloss, Output dx);
void round_to_bf16(const Target&, std::int64_t n, const float* from, void* to);

// partial.cu
/// result[i] = sum over pieces of partial[piece * stride + i], i < n; with `gate` times g (1 - g), g =
/// sigmoid(gate[i]).
void sum_partials(const Target&, const float* partial, std::int64_t pieces, std::int64_t stride,
                  std::int64_t n, const float* gate, Output result);
/// result[0] = sum over everything in partial [pieces, columns].
void sum_all_partials(const Target&, const float* partial, std::int64_t count, Output result);

// residual.cu; scale [columns], or [1] with `scalar`
void scaled_residual(const Target&, Storage, std::int64_t rows, std::int64_t columns, const void* x,
                     const void* branch, const float* scale, bool scalar, Output y);
void scaled_residual_backward(const Target&, Storage, const Pieces&, std::int64_t columns, const void* branch,
                              const float* scale, bool scalar, const void* dy, Output da, Output ds,
                              float* partial);

// sequence.cu; rows of `length` positions
void smear(const Target&, Storage, std::int64_t rows, std::int64_t length, std::int64_t columns,
           const void* x, const float* gamma, const void* previous, Output y);
void smear_backward(const Target&, Storage, const Pieces&, std::int64_t length, std::int64_t columns,
                    const void* x, const float* gamma, const void* dy, const void* previous, Output dx,
                    Output dgamma, float* partial);
void take_last(const Target&, Storage, std::int64_t batch, std::int64_t length, std::int64_t n,
               std::int64_t columns, const void* x, Output y);
void take_last_backward(const Target&, Storage, std::int64_t batch, std::int64_t length, std::int64_t n,
                        std::int64_t columns, const void* dy, Output dx);

// memory_tokens.cu; rows of `length` positions, `count` of them overwritten
void memory_tokens(const Target&, Storage, std::int64_t rows, std::int64_t length, std::int64_t columns,
                   std::int64_t count, const void* x, const float* head, Output y);
void memory_tokens_backward(const Target&, Storage, std::int64_t rows, std::int64_t length,
                            std::int64_t columns, std::int64_t count, const void* dy, Output dx,
                            Output dhead);

// norm.cu
enum class NormKind : std::uint8_t { plain, mix, mix_skip, residual };
struct NormForward {
  std::int64_t rows = 0, columns = 0;
  float scale = 1, eps = 0;
  const void *x = nullptr, *other = nullptr;  ///< x | u, x0 | x, branch
  const float* channel = nullptr;             ///< null | mix [2, D] | s [D]
  const void* skip = nullptr;                 ///< s and k of a mix with a skip connection
  const float* skip_channel = nullptr;
  Output m, y, r;
};
void norm_forward(const Target&, Storage, NormKind, const NormForward&);
/// r of rows whose squares [rows, parts] are summed already.
void norm_from_squares(const Target&, std::int64_t rows, std::int64_t columns, std::int64_t parts, float eps,
                       const float* squares, Output r);
// norm_backward.cu: of plain and residual
struct NormBackward {
  Pieces pieces;
  std::int64_t columns = 0;
  float scale = 1;
  bool prescaled = false;
  const void* x = nullptr;  ///< what was normalised
  const float* r = nullptr;
  const void* branch = nullptr;
  const float* channel = nullptr;
  const void *direct = nullptr, *dy = nullptr;
  Output dx, d_branch, d_channel;
  float* partial = nullptr;
};
void norm_backward(const Target&, Storage, NormKind, const NormBackward&);
// mix_norm_backward.cu
struct MixNormGradients {
  Pieces pieces;
  std::int64_t columns = 0;
  float scale = 1;
  bool prescaled = false;
  const void *u = nullptr, *x0 = nullptr, *s = nullptr;
  const float *mix = nullptr, *k = nullptr, *r = nullptr;
  const void *dm = nullptr, *dy = nullptr;
  Output du, dx0, ds, dmix, dk;
  float* partial = nullptr;  ///< [pieces, 2 or (with s) 3, columns]
};
void mix_norm_backward(const Target&, Storage, const MixNormGradients&);

// qkv.cu
struct Qkv {
  std::int64_t batch = 0, length = 0, positions = 0;
  int heads = 0, kv_heads = 0, head_dim = 0, rope_dims = 0;
  const void* qkv = nullptr;
  const float *gain = nullptr, *rope = nullptr;
  const std::int32_t* offset = nullptr;
  const void* ve = nullptr;
  const float *vs = nullptr, *w = nullptr;
};
void qkv_prepare(const Target&, Storage, const Qkv&, float eps, Output q, Output k, Output v, Output r);
/// Of Qkv everything but `qkv` and what is beside it.
struct QkvGradients {
  const float* rr = nullptr;  ///< saved 1/rms
  const void *q = nullptr, *k = nullptr;
  const float* row = nullptr;  ///< of a deferred norm, may be null: dqkv is times row_scale row[row]
  float row_scale = 1;
  const void *dq = nullptr, *dk = nullptr, *dv = nullptr;
  Output dqkv, dgain, dve, dvs, dw;
  Pieces pieces;
  float* partial = nullptr;  ///< [pieces, heads + kv_heads]
};
void qkv_backward(const Target&, Storage, const Qkv&, const QkvGradients&);

// xsa.cu
struct XsaShape {
  std::int64_t batch = 0, queries = 0, positions = 0;
  int heads = 0, kv_heads = 0, head_dim = 0;
};
void xsa(const Target&, Storage, const XsaShape&, const void* o, const void* v, Output y);
void xsa_backward(const Target&, Storage, const XsaShape&, const void* o, const void* v, const void* dy,
                  Output d_o, Output dv);

// cross_entropy.cu
void softcap_cross_entropy(const Target&, Storage, std::int64_t rows, std::int64_t columns, float cap,
                           float z_loss, const void* z, const std::int32_t* target, Output nll, Output lse);
void softcap_cross_entropy_backward(const Target&, Storage, std::int64_t rows, std::int64_t columns,
                                    float cap, float z_loss, const void* z, const std::int32_t* target,
                                    const float* lse, const float* dnll, Output dz);

// gather.cu and gather_backward.cu
void gather(const Target&, Storage table_storage, Storage y_storage, std::int64_t table_rows,
            std::int64_t columns, std::int64_t positions, const void* table, const std::int32_t* index,
            Output y);
/// `workspace` as ops::GatherBackward lays it out (embedding_cut.h).
void gather_backward(const Target&, Storage, std::int64_t table_rows, std::int64_t columns,
                     std::int64_t positions, const std::int32_t* index, const void* dy, Output dtable,
                     void* workspace);
void bigram_index(const Target&, std::int64_t batch, std::int64_t length, int rows,
                  const std::int32_t* tokens, const std::int32_t* previous, Output index);

// cast_rows.cu
void cast_rows(const Target&, Storage result, std::int64_t rows, std::int64_t columns, float q,
               const float* w, const float* scale, Output y);
void cast_rows_backward(const Target&, std::int64_t rows, std::int64_t columns, float q, const float* w,
                        const float* scale, const float* dy, Output dw, Output dscale);

// attention_decode.cu
struct DecodeShape {
  std::int64_t batch = 0, fresh = 0, capacity = 0;
  int heads = 0, kv_heads = 0, head_dim = 0;
};
void attention_decode(const Target&, Storage, const DecodeShape&, const void* q, const void* k, const void* v,
                      const std::int32_t* length, void* k_cache, void* v_cache, Output o);

}  // namespace fairway::ops::cuda
