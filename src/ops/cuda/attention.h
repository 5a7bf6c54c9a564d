#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

/// Attention on the GPU by raw pointers: the contracts of fairway/ops/attention.h for head size 64 in bf16
/// (Hopper, sm_90a) and for any head size in fp32 (plain form, for parity tests). All tensors are dense, in
/// the layouts below, 16-byte aligned; work is queued on `stream`, nothing synchronises or allocates, and
/// every launch can be captured in a graph. Results are the same bytes in every run on the same GPU model.
namespace fairway::ops::cuda {

/// q, o, do, dq [batch, queries, heads, dim]; k, v, dk, dv [batch, keys, kv_heads, dim]; lse [batch, heads,
/// queries]. The queries are the last `queries` of the `keys` positions; heads is a multiple of kv_heads;
/// query head h reads KV head h / (heads / kv_heads). segment_start [batch, keys]: position p sees keys
/// [segment_start[p], p] (null: from 0); 0 <= segment_start[p] <= p.
struct AttentionShape {
  int batch = 0, queries = 0, keys = 0, heads = 0, kv_heads = 0, head_dim = 64;
  float scale = 0.125F;
  bool unit_keys = false;  ///< each key's mean square is at most 1, up to bf16's rounding
};

/// bf16, head size 64. o bf16, lse fp32 (natural logarithm).
cudaError_t attention_forward(const AttentionShape& shape, const void* q, const void* k, const void* v,
                              const std::int32_t* segment_start, void* o, float* lse, cudaStream_t stream);

/// Bytes of workspace for attention_backward (256-byte aligned, contents need not be set).
std::size_t attention_backward_workspace(const AttentionShape& shape);

/// bf16, head size 64, fp32 sums. dq, dk and dv are all written in full. Sums over query blocks stay in one
/// block; partial dq are added in a fixed order of key blocks, passed on through a counter per block of
/// queries. Without `in_order` they are added as they come, and dq differs in its last bits from run to run:
/// that is for measuring what the order costs.
cudaError_t attention_backward(const AttentionShape& shape, const void* q, const void* k, const void* v,
                               const std::int32_t* segment_start, const void* o, const float* lse,
                               const void* dout, void* dq, void* dk, void* dv, void* workspace,
                               cudaStream_t stream, bool in_order = true);

/// The plain fp32 form: head_dim <= 512, all tensors fp32, one warp for each row.
cudaError_t attention_forward_plain(const AttentionShape& shape, const float* q, const float* k,
                                    const float* v, const std::int32_t* segment_start, float* o, float* lse,
                                    cudaStream_t stream);
/// delta: workspace of batch * heads * queries floats.
cudaError_t attention_backward_plain(const AttentionShape& shape, const float* q, const float* k,
                                     const float* v, const std::int32_t* segment_start, const float* o,
                                     const float* lse, const float* dout, float* dq, float* dk, float* dv,
                                     float* delta, cudaStream_t stream);

}  // namespace fairway::ops::cuda
