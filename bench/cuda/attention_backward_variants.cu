#include "attention_backward.cu"
#include "attention_variants.h"

using namespace fairway::ops::cuda;

const BackwardVariant backward_variants[] = {{"all products, rows first", backward<false, false>},
                                             {"no corner, rows first", backward<true, false>},
                                             {"all products, rows beside", backward<false, true>},
                                             {"no corner, rows beside", backward<true, true>},
                                             {"shipped", attention_backward}};
const int backward_variant_count = sizeof(backward_variants) / sizeof(backward_variants[0]);
