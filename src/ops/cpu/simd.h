#pragma once
// Vectors of one fixed width, 64 bytes (16 floats, 8 doubles), on every instruction set: sums have the same
// order everywhere, and a kernel is written once. A Block splits into halves until a half fits a register.
// Everything here lives in the namespace of the instruction set: two builds never share a definition.

#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cpu/parallel.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

#if defined(__AVX512F__)
inline constexpr int native_bytes = 64;
#elif defined(__AVX2__)
inline constexpr int native_bytes = 32;
#else
inline constexpr int native_bytes = 16;
#endif

/// A vector register.
template <class T, int Bytes>
struct NativeOf {
  typedef T type __attribute__((vector_size(Bytes)));
};
template <class T, int Bytes>
using Native = typename NativeOf<T, Bytes>::type;
/// The signed integer as wide as T; masks hold -1 (true) or 0 in it.
template <class T>
using IntOf = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <class T, int Bytes, bool Split = (Bytes > native_bytes)>
struct Block;
template <class T, int Bytes>
struct Block<T, Bytes, true> {
  Block<T, Bytes / 2> lo, hi;
};
template <class T, int Bytes>
struct Block<T, Bytes, false> {
  Native<T, Bytes> v;
};

template <class T>
using Vec = Block<T, 64>;
template <class T>
using IntVec = Vec<IntOf<T>>;
template <class T>
inline constexpr int lanes = 64 / static_cast<int>(sizeof(T));

// ---- applying a function of registers to the registers of blocks ----

template <class R, class T, int B, class F, class... More>
[[gnu::always_inline]] inline Block<R, B> map(const F& f, const Block<T, B>& a, const More&... more) {
  if constexpr (B > native_bytes)
    return {map<R>(f, a.lo, more.lo...), map<R>(f, a.hi, more.hi...)};
  else
    return {f(a.v, more.v...)};
}

template <class T, int B = 64>
[[gnu::always_inline]] inline Block<T, B> splat(T x) {
  if constexpr (B > native_bytes) {
    const auto half = splat<T, B / 2>(x);
    return {half, half};
  } else {
    return {x - Native<T, B>{}};  // minus zero, not plus: keeps -0
  }
}

template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> operator+(const Block<T, B>& a, const Block<T, B>& b) {
  return map<T>(
      [](auto x, auto y) __attribute__((always_inline)) { return x + y; }, a, b);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> operator-(const Block<T, B>& a, const Block<T, B>& b) {
  return map<T>(
      [](auto x, auto y) __attribute__((always_inline)) { return x - y; }, a, b);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> operator*(const Block<T, B>& a, const Block<T, B>& b) {
  return map<T>(
      [](auto x, auto y) __attribute__((always_inline)) { return x * y; }, a, b);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> operator/(const Block<T, B>& a, const Block<T, B>& b) {
  return map<T>(
      [](auto x, auto y) __attribute__((always_inline)) { return x / y; }, a, b);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> operator&(const Block<T, B>& a, const Block<T, B>& b) {
  return map<T>(
      [](auto x, auto y) __attribute__((always_inline)) { return x & y; }, a, b);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> operator|(const Block<T, B>& a, const Block<T, B>& b) {
  return map<T>(
      [](auto x, auto y) __attribute__((always_inline)) { return x | y; }, a, b);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> operator<<(const Block<T, B>& a, int bits) {
  return map<T>(
      [bits](auto x) __attribute__((always_inline)) { return x << bits; }, a);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> operator>>(const Block<T, B>& a, int bits) {
  return map<T>(
      [bits](auto x) __attribute__((always_inline)) { return x >> bits; }, a);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<IntOf<T>, B> operator<(const Block<T, B>& a, const Block<T, B>& b) {
  return map<IntOf<T>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x < y; }, a, b);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<IntOf<T>, B> operator>(const Block<T, B>& a, const Block<T, B>& b) {
  return b < a;
}

/// a where the mask is set, else b.
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> select(const Block<IntOf<T>, B>& mask, const Block<T, B>& a,
                                                 const Block<T, B>& b) {
  return map<T>(
      [](auto m, auto x, auto y) __attribute__((always_inline)) { return m ? x : y; }, mask, a, b);
}
/// Square roots.
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> root(const Block<T, B>& a) {
  return map<T>(
      [](auto x) __attribute__((always_inline)) {
        for (int i = 0; i < static_cast<int>(sizeof x / sizeof(T)); ++i) {
          if constexpr (sizeof(T) == 4)
            x[i] = __builtin_sqrtf(x[i]);
          else
            x[i] = __builtin_sqrt(x[i]);
        }
        return x;
      },
      a);
}
/// The greater of two; b where either is not a number.
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> max(const Block<T, B>& a, const Block<T, B>& b) {
  return map<T>(
      [](auto x, auto y) __attribute__((always_inline)) { return x > y ? x : y; }, a, b);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> min(const Block<T, B>& a, const Block<T, B>& b) {
  return map<T>(
      [](auto x, auto y) __attribute__((always_inline)) { return x < y ? x : y; }, a, b);
}

/// a * b + c, fused where the instruction set has it.
template <class T, int B>
[[gnu::always_inline]] inline Native<T, B> fma_native(Native<T, B> a, Native<T, B> b, Native<T, B> c) {
#if defined(__AVX512F__)
  if constexpr (B == 64 && std::is_same_v<T, float>) return _mm512_fmadd_ps(a, b, c);
  if constexpr (B == 64 && std::is_same_v<T, double>) return _mm512_fmadd_pd(a, b, c);
#endif
#if defined(__FMA__)
  if constexpr (B == 32 && std::is_same_v<T, float>) return _mm256_fmadd_ps(a, b, c);
  if constexpr (B == 32 && std::is_same_v<T, double>) return _mm256_fmadd_pd(a, b, c);
#endif
  return a * b + c;
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> fma(const Block<T, B>& a, const Block<T, B>& b,
                                              const Block<T, B>& c) {
  if constexpr (B > native_bytes)
    return {fma(a.lo, b.lo, c.lo), fma(a.hi, b.hi, c.hi)};
  else
    return {fma_native<T, B>(a.v, b.v, c.v)};
}

/// The bits of one block as another type of the same width.
template <class R, class T, int B>
[[gnu::always_inline]] inline Block<R, B> bits_as(const Block<T, B>& a) {
  return map<R>(
      [](auto x) __attribute__((always_inline)) { return reinterpret_cast<Native<R, sizeof(x)>>(x); }, a);
}
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> abs(const Block<T, B>& a) {
  const auto magnitude = splat<IntOf<T>, B>(static_cast<IntOf<T>>(~(IntOf<T>{1} << (8 * sizeof(T) - 1))));
  return bits_as<T>(bits_as<IntOf<T>>(a) & magnitude);
}
/// |a| with the sign of s.
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> copy_sign(const Block<T, B>& a, const Block<T, B>& s) {
  const auto sign = splat<IntOf<T>, B>(static_cast<IntOf<T>>(IntOf<T>{1} << (8 * sizeof(T) - 1)));
  return bits_as<T>(bits_as<IntOf<T>>(abs(a)) | (bits_as<IntOf<T>>(s) & sign));
}
/// Nearest whole number, ties to even, for |x| < 2^22 (2^51 in double): adding 1.5 * 2^23 leaves no fraction
/// bits.
template <class T, int B>
[[gnu::always_inline]] inline Block<T, B> round_even(const Block<T, B>& x) {
  const auto magic = splat<T, B>(std::is_same_v<T, float> ? T(12582912.0) : T(6755399441055744.0));
  return (x + magic) - magic;
}

// ---- horizontal, in one fixed order: halves are combined down to one element ----

template <int N, class V, int... I>
[[gnu::always_inline]] inline auto half_of(V v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, (I + N)...);
}
template <class T, int B, class F>
[[gnu::always_inline]] inline T fold(const Block<T, B>& a, const F& f) {
  constexpr int n = B / static_cast<int>(sizeof(T));
  if constexpr (B > native_bytes) {
    return fold(Block<T, B / 2>{map<T>(f, a.lo, a.hi)}, f);
  } else if constexpr (B > 16) {
    using Half = std::make_integer_sequence<int, n / 2>;
    return fold(Block<T, B / 2>{f(half_of<0>(a.v, Half{}), half_of<n / 2>(a.v, Half{}))}, f);
  } else if constexpr (n == 4) {
    return f(f(a.v[0], a.v[2]), f(a.v[1], a.v[3]));
  } else {
    return f(a.v[0], a.v[1]);
  }
}
template <class T, int B>
[[gnu::always_inline]] inline T sum(const Block<T, B>& a) {
  return fold(
      a, [](auto x, auto y) __attribute__((always_inline)) { return x + y; });
}
template <class T, int B>
[[gnu::always_inline]] inline T max_of(const Block<T, B>& a) {
  return fold(
      a, [](auto x, auto y) __attribute__((always_inline)) { return x > y ? x : y; });
}

// ---- memory ----

template <class T, int B = 64>
[[gnu::always_inline]] inline Block<T, B> load(const T* p) {
  if constexpr (B > native_bytes) {
    return {load<T, B / 2>(p), load<T, B / 2>(p + B / 2 / sizeof(T))};
  } else {
    Native<T, B> v;
    __builtin_memcpy(&v, p, sizeof v);
    return {v};
  }
}
template <class T, int B>
[[gnu::always_inline]] inline void store(T* p, const Block<T, B>& a) {
  if constexpr (B > native_bytes) {
    store(p, a.lo);
    store(p + B / 2 / sizeof(T), a.hi);
  } else {
    __builtin_memcpy(p, &a.v, sizeof a.v);
  }
}

/// How much of a vector is there: all of it, or the last n < lanes elements of a row.
struct Full {};
struct Tail {
  int n;
};

template <class T>
[[gnu::always_inline]] inline Vec<T> load(const T* p, Full) {
  return load<T>(p);
}
/// Missing lanes read as `fill`.
template <class T>
inline Vec<T> load(const T* p, Tail tail, T fill = T{}) {
  alignas(64) T full[lanes<T>];
  for (int i = 0; i < lanes<T>; ++i) full[i] = i < tail.n ? p[i] : fill;
  return load<T>(full);
}
template <class T>
[[gnu::always_inline]] inline Vec<T> load(const T* p, Full, T) {
  return load<T>(p);
}
template <class T>
[[gnu::always_inline]] inline void store(T* p, Full, const Vec<T>& a) {
  store(p, a);
}
template <class T>
inline void store(T* p, Tail tail, const Vec<T>& a) {
  alignas(64) T full[lanes<T>];
  store(full, a);
  for (int i = 0; i < tail.n; ++i) p[i] = full[i];
}

/// Calls f(i, Full{}) for each whole vector of [0, n) and f(i, Tail{rest}) for what remains.
template <class T, class F>
[[gnu::always_inline]] inline void for_vectors(std::int64_t n, const F& f) {
  std::int64_t i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) f(i, Full{});
  if (i < n) f(i, Tail{static_cast<int>(n - i)});
}

// ---- elementary functions; float by polynomials so that a pinned instruction set gives the same bits on
// every
// ---- processor (the C library chooses its own by processor), double by the C library (gradient checks only)
// ----

template <class F>
inline Vec<double> each_lane(const Vec<double>& x, const F& f) {
  double lane[lanes<double>];
  store(lane, x);
  for (double& v : lane) v = f(v);
  return load<double>(lane);
}

/// e^x within 2 ulp (Cephes expf). 0 below -87.33 (no subnormal results), infinity above 88.72.
inline Vec<float> exp(const Vec<float>& x) {
  const auto k = [](float v) __attribute__((always_inline)) { return splat<float>(v); };
  const auto magic = k(12582912.0f);
  const auto t = fma(x, k(1.44269504088896341f), magic);  // low bits hold n = round(x / ln 2)
  const auto n = t - magic;
  const auto r = fma(n, k(2.12194440e-4f), fma(n, k(-0.693359375f), x));
  auto y = fma(k(1.9875691500e-4f), r, k(1.3981999507e-3f));
  y = fma(y, r, k(8.3334519073e-3f));
  y = fma(y, r, k(4.1665795894e-2f));
  y = fma(y, r, k(1.6666665459e-1f));
  y = fma(y, r, k(5.0000001201e-1f));
  y = fma(y, r * r, r) + k(1.0f);
  // times 2^n: added to the exponent field, so that n = 128 with y < 1 needs no special case; NaN stays NaN.
  y = bits_as<float>(bits_as<std::uint32_t>(y) + (bits_as<std::uint32_t>(t) << 23));
  y = select(x < k(-87.33654f), k(0.0f), y);
  return select(x > k(88.72283f), k(__builtin_inff()), y);
}
inline Vec<double> exp(const Vec<double>& x) {
  return each_lane(x, [](double v) { return __builtin_exp(v); });
}

/// ln x within 2 ulp (Cephes logf); -infinity at 0, NaN below.
inline Vec<float> log(const Vec<float>& x) {
  const auto k = [](float v) __attribute__((always_inline)) { return splat<float>(v); };
  const auto subnormal = x < k(1.17549435e-38f);
  const auto bits = bits_as<std::uint32_t>(select(subnormal, x * k(8388608.0f), x));
  // m in [sqrt(1/2), sqrt(2)): the offset makes the exponent field count from sqrt(1/2)
  const auto e_int = bits_as<std::int32_t>(bits - splat<std::uint32_t>(0x3f3504f3)) >> 23;
  const auto m = bits_as<float>(bits - bits_as<std::uint32_t>(e_int << 23));
  auto e = map<float>(
      [](auto v)
          __attribute__((always_inline)) { return __builtin_convertvector(v, Native<float, sizeof(v)>); },
      e_int);
  e = select(subnormal, e - k(23.0f), e);
  const auto f = m - k(1.0f);
  auto y = fma(k(7.0376836292e-2f), f, k(-1.1514610310e-1f));
  y = fma(y, f, k(1.1676998740e-1f));
  y = fma(y, f, k(-1.2420140846e-1f));
  y = fma(y, f, k(1.4249322787e-1f));
  y = fma(y, f, k(-1.6668057665e-1f));
  y = fma(y, f, k(2.0000714765e-1f));
  y = fma(y, f, k(-2.4999993993e-1f));
  y = fma(y, f, k(3.3333331174e-1f));
  const auto f2 = f * f;
  y = fma(e, k(-2.12194440e-4f), y * f * f2);
  y = fma(k(-0.5f), f2, y);
  y = fma(e, k(0.693359375f), f + y);
  y = select(x < k(__builtin_inff()), y, x);  // infinity and NaN pass through
  const auto below = select(x < k(0.0f), k(__builtin_nanf("")), k(-__builtin_inff()));
  return select(x < k(1e-45f), below, y);
}
inline Vec<double> log(const Vec<double>& x) {
  return each_lane(x, [](double v) { return __builtin_log(v); });
}

/// Within 3 ulp (Cephes tanhf).
inline Vec<float> tanh(const Vec<float>& x) {
  const auto k = [](float v) __attribute__((always_inline)) { return splat<float>(v); };
  const auto z = x * x;
  auto y = fma(k(-5.70498872745e-3f), z, k(2.06390887954e-2f));
  y = fma(y, z, k(-5.37397155531e-2f));
  y = fma(y, z, k(1.33314422036e-1f));
  y = fma(y, z, k(-3.33332819422e-1f));
  const auto small = fma(y * z, x, x);
  const auto a = abs(x);
  const auto large = k(1.0f) - k(2.0f) / (exp(a + a) + k(1.0f));
  return select(a < k(0.625f), small, copy_sign(large, x));
}
inline Vec<double> tanh(const Vec<double>& x) {
  return each_lane(x, [](double v) { return __builtin_tanh(v); });
}

template <class T>
inline Vec<T> sigmoid(const Vec<T>& x) {
  return splat<T>(1) / (splat<T>(1) + exp(splat<T>(0) - x));
}

/// One element, by the vector's own formula.
template <class T>
inline T log_of(T x) {
  alignas(64) T lane[lanes<T>];
  store(lane, log(splat<T>(x)));
  return lane[0];
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
