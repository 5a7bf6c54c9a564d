#pragma once
// The operators' kernels on a GPU; contracts stand in the operators' public headers.

#include "fairway/ops/operator.h"

namespace fairway::ops::cuda {

// embedding.h
void gather(const KernelArgs&);
void gather_backward(const KernelArgs&);
void bigram_index(const KernelArgs&);
// norm.h
void rms_norm(const KernelArgs&);
void rms_norm_backward(const KernelArgs&);
void mix_norm(const KernelArgs&);
void mix_norm_backward(const KernelArgs&);
void residual_norm(const KernelArgs&);
void residual_norm_backward(const KernelArgs&);
// residual.h
void scaled_residual(const KernelArgs&);
void scaled_residual_backward(const KernelArgs&);
void add(const KernelArgs&);
void copy(const KernelArgs&);
void smear(const KernelArgs&);
void smear_backward(const KernelArgs&);
void overwrite_head(const KernelArgs&);
void overwrite_head_backward(const KernelArgs&);
void take_last(const KernelArgs&);
void take_last_backward(const KernelArgs&);
// qkv.h
void qkv_prepare(const KernelArgs&);
void qkv_backward(const KernelArgs&);
// qkv_product.h
void qkv_product(const KernelArgs&);
// activation.h
void leaky_square(const KernelArgs&);
void leaky_square_backward(const KernelArgs&);
// cross_entropy.h
void softcap_cross_entropy(const KernelArgs&);
void softcap_cross_entropy_backward(const KernelArgs&);
void softcap(const KernelArgs&);
void weighted_sum(const KernelArgs&);
void weighted_sum_backward(const KernelArgs&);
// matmul.h
void matmul(const KernelArgs&);
void linear_add(const KernelArgs&);
// row_squares.h
void row_squares(const KernelArgs&);
// scale_rows.h
void scale_rows(const KernelArgs&);
// linear_square.h
void linear_square(const KernelArgs&);
void square_linear_add(const KernelArgs&);
void square_linear_backward(const KernelArgs&);
// attention.h
void attention(const KernelArgs&);
void attention_backward(const KernelArgs&);
void attention_decode(const KernelArgs&);
void xsa(const KernelArgs&);
void xsa_backward(const KernelArgs&);
// working_rows.h
void working_rows(const KernelArgs&);
void working_rows_backward(const KernelArgs&);

}  // namespace fairway::ops::cuda
