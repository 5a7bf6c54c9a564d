#include "attention_forward.cu"
#include "attention_variants.h"

using namespace fairway::ops::cuda;

const ForwardVariant forward_variants[] = {
    {"running maximum, late", false, forward<false, 0>}, {"running maximum, early", false, forward<true, 0>},
    {"known bound, late", true, forward<false, 0>},      {"known bound, early", true, forward<true, 0>},
    {"  1/8 polynomials", true, forward<true, 8>},       {"  1/4 polynomials", true, forward<true, 4>},
    {"late, 1/4 polynomials", true, forward<false, 4>},  {"shipped", true, attention_forward},
};
const int forward_variant_count = sizeof(forward_variants) / sizeof(forward_variants[0]);
