#include "probe.h"

#include "cpu/simd.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

bool same(const char* a, const char* b) { return __builtin_strcmp(a, b) == 0; }

template <class T>
void apply(const char* what, const T* x, T* y, int n) {
  for_vectors<T>(n, [&](std::int64_t i, auto part) {
    const Vec<T> v = load(x + i, part);
    Vec<T> r = v;
    if (same(what, "exp")) r = exp(v);
    if (same(what, "log")) r = log(v);
    if (same(what, "tanh")) r = tanh(v);
    if (same(what, "sigmoid")) r = sigmoid(v);
    if (same(what, "round")) r = round_even(v);
    if (same(what, "abs")) r = copy_sign(abs(v), splat<T>(-1)) * splat<T>(-1);
    store(y + i, part, r);
  });
}

template <class T>
void fold_all(const T* x, int n, T* result) {
  auto total = splat<T>(0), greatest = splat<T>(-1e30f);
  for_vectors<T>(n, [&](std::int64_t i, auto part) {
    total = total + load(x + i, part);
    greatest = max(load(x + i, part, T(-1e30f)), greatest);
  });
  result[0] = sum(total);
  result[1] = max_of(greatest);
}

}  // namespace

SimdProbe simd_probe() { return {apply<float>, apply<double>, fold_all<float>, fold_all<double>}; }

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
