#pragma once
// Reaches into each build of the vector functions; the sources beside it are compiled once per instruction
// set.

namespace fairway::ops::cpu {

struct SimdProbe {
  /// y[i] = what(x[i]) for i < n: "exp", "log", "tanh", "sigmoid", "round", "abs".
  void (*floats)(const char* what, const float* x, float* y, int n);
  void (*doubles)(const char* what, const double* x, double* y, int n);
  /// {sum, greatest} of n elements, n a multiple of one vector or not.
  void (*fold_floats)(const float* x, int n, float* result);
  void (*fold_doubles)(const double* x, int n, double* result);
};

namespace scalar {
SimdProbe simd_probe();
}
namespace avx2 {
SimdProbe simd_probe();
}
namespace avx512 {
SimdProbe simd_probe();
}

}  // namespace fairway::ops::cpu
