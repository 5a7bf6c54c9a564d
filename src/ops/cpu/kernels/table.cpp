#include "cpu/table.h"

#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

KernelTable kernel_table() {
  static constexpr KernelEntry entries[] = {
      {"matmul", matmul},
      {"attention", attention},
      {"attention_backward", attention_backward},
      {"attention_decode", attention_decode},
      {"xsa", xsa},
      {"xsa_backward", xsa_backward},
      {"gather", gather},
      {"gather_backward", gather_backward},
      {"bigram_index", bigram_index},
      {"rms_norm", rms_norm},
      {"rms_norm_backward", rms_norm_backward},
      {"mix_norm", mix_norm},
      {"mix_norm_backward", mix_norm_backward},
      {"residual_norm", residual_norm},
      {"residual_norm_backward", residual_norm_backward},
      {"scaled_residual", scaled_residual},
      {"scaled_residual_backward", scaled_residual_backward},
      {"add", add},
      {"copy", copy},
      {"smear", smear},
      {"smear_backward", smear_backward},
      {"overwrite_head", overwrite_head},
      {"overwrite_head_backward", overwrite_head_backward},
      {"take_last", take_last},
      {"take_last_backward", take_last_backward},
      {"qkv_prepare", qkv_prepare},
      {"qkv_backward", qkv_backward},
      {"qkv_product", qkv_product},
      {"softcap_cross_entropy", softcap_cross_entropy},
      {"softcap_cross_entropy_backward", softcap_cross_entropy_backward},
      {"softcap", softcap},
      {"weighted_sum", weighted_sum},
      {"weighted_sum_backward", weighted_sum_backward},
      {"working_rows", working_rows},
      {"working_rows_backward", working_rows_backward},
      {"linear_add", linear_add},
      {"row_squares", row_squares},
      {"scale_rows", scale_rows},
      {"linear_square", linear_square},
      {"square_linear_add", square_linear_add},
      {"square_linear_backward", square_linear_backward},
      {"leaky_square", leaky_square},
      {"leaky_square_backward", leaky_square_backward},
  };
  return {entries, static_cast<int>(sizeof entries / sizeof entries[0])};
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
