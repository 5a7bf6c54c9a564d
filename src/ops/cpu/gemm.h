#pragma once
// What kernels multiply with: the products of fairway/ops/gemm.h and a form in double for the tests.

#include "fairway/ops/gemm.h"

namespace fairway::ops::cpu {

using ops::gemm;
/// Plain loops.
void gemm(const GemmShape& shape, double alpha, const double* a, const double* b, double beta, double* c);

}  // namespace fairway::ops::cpu
