#include "attention_forward.cu"
#include "attention_variants.h"

using namespace fairway::ops::cuda;

const ForwardVariant forward_variants[] = {
    {"running maximum, late", false, forward<Form<false, 0, false>>},
    {"running maximum, early", false, forward<Form<true, 0, false>>},
    {"bounded, late", true, forward<Form<false, 0, false>>},
    {"bounded, early", true, forward<Form<true, 0, false>>},
    {"  1/8 polynomials", true, forward<Form<true, 8, false>>},
    {"  1/4 polynomials", true, forward<Form<true, 4, false>>},
    {"  no corner", true, forward<Form<true, 0, true>>},
    {"  no corner, 1/8", true, forward<Form<true, 8, true>>},
    {"bounded, late, no corner, 1/4", true, forward<Form<false, 4, true>>},
    {"shipped", true, attention_forward},
};
const int forward_variant_count = sizeof(forward_variants) / sizeof(forward_variants[0]);
