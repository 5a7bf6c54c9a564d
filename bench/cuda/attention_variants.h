#pragma once
#include "attention.h"

/// Forms of the attention kernels that attention_main.cu checks and times in turn; the library ships one of
/// each direction. The variants' units include the kernels' own, in place of which they are linked.
struct ForwardVariant {
  const char* name;
  bool unit_keys;
  decltype(&fairway::ops::cuda::attention_forward) run;
};
struct BackwardVariant {
  const char* name;
  decltype(&fairway::ops::cuda::attention_backward) run;
};
extern const ForwardVariant forward_variants[];
extern const int forward_variant_count;
extern const BackwardVariant backward_variants[];
extern const int backward_variant_count;
