#include "attention_backward.cu"
#include "attention_variants.h"

using namespace fairway::ops::cuda;

const BackwardVariant backward_variants[] = {{"all products, late", backward<false, 0, false>},
                                             {"  early 4", backward<false, 4, false>},
                                             {"  early 8", backward<false, 8, false>},
                                             {"  early 16", backward<false, 16, false>},
                                             {"no corner, late", backward<true, 0, false>},
                                             {"  early 8", backward<true, 8, false>},
                                             {"rows beside, late", backward<false, 0, true>},
                                             {"rows beside, no corner, early 8", backward<true, 8, true>},
                                             {"shipped", attention_backward}};
const int backward_variant_count = sizeof(backward_variants) / sizeof(backward_variants[0]);
