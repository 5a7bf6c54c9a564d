#include "attention_backward.cu"
#include "attention_variants.h"

using namespace fairway::ops::cuda;

const BackwardVariant backward_variants[] = {
    {"all products", backward<false>}, {"no corner", backward<true>}, {"shipped", attention_backward}};
const int backward_variant_count = sizeof(backward_variants) / sizeof(backward_variants[0]);
