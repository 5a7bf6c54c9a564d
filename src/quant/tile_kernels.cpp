#include "tile_kernels.h"

#include <cstring>

#include "clones.h"

namespace fairway::quant::kernels {
namespace {

using Doubles = double __attribute__((vector_size(64)));
using Floats = float __attribute__((vector_size(64)));
static_assert(sizeof(Floats) == lanes * sizeof(float));
constexpr std::int64_t width = sizeof(Doubles) / sizeof(double);

// Loads and stores by reference: a vector as an argument or a result would depend on the instruction set.
template <class V, class T>
[[gnu::always_inline]] inline void get(const T* from, V& to) {
  std::memcpy(&to, from, sizeof to);
}
template <class V, class T>
[[gnu::always_inline]] inline void put(const V& from, T* to) {
  std::memcpy(to, &from, sizeof from);
}

constexpr float round_magic = 12582912.0f;  // as in row_kernels.cpp: to the nearest integer, ties to even
constexpr int targets = 4;                  // columns that sum over the ones before together

/// From its centre on: q, d of column t.
[[gnu::always_inline]] inline void round_one(const Floats& centre, const Floats& w, const float* scale,
                                             float bound, float* d, std::int8_t* q) {
  Floats s;
  get(scale, s);
  Floats x = centre / s;
  const Floats high = Floats{} + bound, low = -high;
  x = x > high ? high : x;
  x = x < low ? low : x;
  x = (x + round_magic) - round_magic;
  put(w - x * s, d);
  for (int i = 0; i < lanes; ++i) q[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(x[i]));
}

}  // namespace

FAIRWAY_CLONES void multiply_tile(const double* a, std::int64_t a_stride, const double* b, double sign,
                                  double* c, std::int64_t c_stride) {
  constexpr int rows = 4;
  for (std::int64_t r = 0; r < tile; r += rows)
    for (std::int64_t j = 0; j < tile; j += width) {
      Doubles sums[rows] = {};
      const double* at = a + r * a_stride;
      for (std::int64_t k = 0; k < tile; ++k) {
        Doubles right;
        get(b + k * tile + j, right);
        for (int i = 0; i < rows; ++i) sums[i] += at[i * a_stride + k] * right;
      }
      for (int i = 0; i < rows; ++i) {
        double* to = c + (r + i) * c_stride + j;
        Doubles old;
        get(to, old);
        put(old + sign * sums[i], to);
      }
    }
}

FAIRWAY_CLONES void round_columns(const float* w, std::int64_t n, const float* feedback,
                                  const std::uint8_t* fine, const float* scale, float bound,
                                  const float* fine_scale, float* d, std::int8_t* q) {
  const auto finish = [&](std::int64_t t, const Floats& sum) __attribute__((always_inline)) {
    Floats value;
    get(w + t * lanes, value);
    round_one(value + sum, value, fine[t] ? fine_scale : scale, fine[t] ? 127.0f : bound, d + t * lanes,
              q + t * lanes);
  };
  const auto add = [&](std::int64_t t, std::int64_t j, Floats & sum) __attribute__((always_inline)) {
    Floats lost;
    get(d + j * lanes, lost);
    sum += feedback[t * n + j] * lost;
  };
  std::int64_t first = 0;
  for (; first + targets <= n; first += targets) {
    Floats sums[targets] = {};
    const float* f = feedback + first * n;
    for (std::int64_t j = 0; j < first; ++j) {
      Floats lost;
      get(d + j * lanes, lost);
      for (int i = 0; i < targets; ++i) sums[i] += f[i * n + j] * lost;
    }
    for (int i = 0; i < targets; ++i) {
      for (int k = 0; k < i; ++k) add(first + i, first + k, sums[i]);
      finish(first + i, sums[i]);
    }
  }
  for (; first < n; ++first) {
    Floats sum = {};
    for (std::int64_t j = 0; j < first; ++j) add(first, j, sum);
    finish(first, sum);
  }
}

FAIRWAY_CLONES void add_scaled(double factor, const double* __restrict x, std::int64_t n,
                               double* __restrict y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

FAIRWAY_CLONES void rotate(double c, double s, double* __restrict x, double* __restrict y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double a = x[i], b = y[i];
    x[i] = c * a - s * b, y[i] = s * a + c * b;
  }
}

FAIRWAY_CLONES void times_vector(const double* __restrict a, std::int64_t n, std::int64_t first,
                                 const double* __restrict x, double* __restrict y) {
  for (std::int64_t j = first; j < n; ++j) y[j] = 0;
  for (std::int64_t i = first; i < n; ++i)  // by rows, which are its columns
    for (std::int64_t j = first; j < n; ++j) y[j] += x[i] * a[i * n + j];
}

FAIRWAY_CLONES void add_outer(double* __restrict a, std::int64_t n, std::int64_t first, double factor,
                              const double* __restrict x, const double* __restrict y) {
  for (std::int64_t i = first; i < n; ++i) {
    const double f = factor * x[i];
    for (std::int64_t j = first; j < n; ++j) a[i * n + j] += f * y[j];
  }
}

}  // namespace fairway::quant::kernels
