#include "fairway/optim/newton_schulz.h"

#include <algorithm>
#include <cmath>

#include "fairway/base/error.h"
#include "fairway/tensor/dtype.h"
#include "gemm.h"
#include "kernels.h"

namespace fairway::optim {
namespace {

constexpr float norm_eps = 1e-7f;

// On the Gram matrix errors grow about 12-fold a step (faster with Polar Express, whose first slope is 8.2),
// so that it only serves short iterations.
constexpr int most_gram_steps = 5;

double product_flops(std::int64_t m, std::int64_t n, std::int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

double direct_flops(std::int64_t side, std::int64_t length, int steps) {
  const double share = symmetric_share(side);
  return steps *
         (product_flops(side, side, length) * (share + 1.0) + product_flops(side, side, side) * share);
}

double gram_flops(std::int64_t side, std::int64_t length, int steps) {
  const double share = symmetric_share(side);
  // The first step needs no P Q, the last no new A.
  return product_flops(side, side, length) * (share + 1.0) +
         product_flops(side, side, side) * share * (4.0 * steps - 3.0);
}

bool use_gram(std::int64_t side, std::int64_t length, int steps) {
  return steps >= 1 && steps <= most_gram_steps &&
         gram_flops(side, length, steps) < 0.95 * direct_flops(side, length, steps);
}

void add_to_diagonal(std::vector<float>& square, std::int64_t side, float value) {
  for (std::int64_t i = 0; i < side; ++i) square[static_cast<std::size_t>(i * side + i)] += value;
}

/// The rounded values times c, rounded.
void scale_rounded(std::vector<float>& values, float c, std::int64_t n) {
  kernels::round_bf16(values.data(), n);
  kernels::scale_bf16(values.data(), c, values.data(), n);
}

}  // namespace

/// The matrix seen from its smaller side: A = X X^T, or X^T X when there are more rows than columns.
struct NewtonSchulz::Problem {
  std::int64_t rows, columns;
  bool left() const { return rows <= columns; }  ///< factors multiply from the left
  std::int64_t side() const { return std::min(rows, columns); }
  std::int64_t length() const { return std::max(rows, columns); }
  std::int64_t elements() const { return rows * columns; }

  template <class E>
  void gram(const E* x, float* a) const {
    gemm_symmetric<E>(!left(), left(), side(), length(), {x, columns}, {x, columns}, a);
  }
  /// y = factor · x, or (factor · x^T)^T on the other side; factor [side, side], in bf16 not quite symmetric.
  template <class E>
  void multiply(const E* factor, const E* x, float* y) const {
    const Matrix<E> f{factor, side()}, m{x, columns};
    if (left())
      gemm(false, false, rows, columns, rows, f, m, y, columns);
    else
      gemm(false, true, rows, columns, columns, m, f, y, columns);
  }
};

NewtonSchulz::NewtonSchulz(std::int64_t max_elements, std::int64_t max_side) {
  for (auto* buffer : {&x_, &y_}) buffer->resize(static_cast<std::size_t>(max_elements));
  for (auto* buffer : {&a_, &b_, &q_, &scratch_})
    buffer->resize(static_cast<std::size_t>(max_side * max_side));
}

std::span<float> NewtonSchulz::input(std::int64_t rows, std::int64_t columns) {
  const auto side = static_cast<std::size_t>(std::min(rows, columns));
  const auto elements = static_cast<std::size_t>(rows * columns);
  base::check(elements <= x_.size() && side * side <= a_.size(),
              "matrix [{}, {}] is larger than the workspace", rows, columns);
  return std::span(x_).first(elements);
}

std::span<const float> NewtonSchulz::run(std::int64_t rows, std::int64_t columns, int steps,
                                         tensor::DType dtype, NsCoefficients coefficients) {
  const Problem problem{rows, columns};
  coefficients_ = coefficients;
  const auto x = input(rows, columns);
  if (dtype == tensor::DType::bf16) {
    start_bf16(problem);
    if (ops::has_bf16_gemm())
      run_bf16(problem, steps);
    else
      run_rounded(problem, steps);
  } else {
    const auto norm = static_cast<float>(std::sqrt(kernels::sum_of_squares(x.data(), problem.elements())));
    kernels::divide(x.data(), problem.elements(), norm + norm_eps);
    if (coefficients == NsCoefficients::fixed && use_gram(problem.side(), problem.length(), steps))
      run_gram(problem, steps);
    else
      run_direct(problem, steps);
  }
  return std::span<const float>(x_).first(x.size());
}

void NewtonSchulz::run_direct(const Problem& p, int steps) {
  const std::int64_t side = p.side();
  for (int step = 0; step < steps; ++step) {
    const Quintic q = quintic(coefficients_, step);
    p.gram(x_.data(), a_.data());
    gemm_symmetric<float>(false, false, side, side, {a_.data(), side}, {a_.data(), side}, b_.data());
    kernels::combine(a_.data(), q.b, b_.data(), q.c, b_.data(), side * side);
    add_to_diagonal(b_, side, q.a);
    p.multiply(b_.data(), x_.data(), y_.data());
    x_.swap(y_);
  }
}

void NewtonSchulz::run_gram(const Problem& p, int steps) {
  const std::int64_t side = p.side();
  const auto square = [side](const std::vector<float>& a, const std::vector<float>& b,
                             std::vector<float>& c) {
    gemm_symmetric<float>(false, false, side, side, {a.data(), side}, {b.data(), side}, c.data());
  };
  p.gram(x_.data(), a_.data());
  for (int step = 0; step < steps; ++step) {
    const Quintic q = quintic(coefficients_, step);
    square(a_, a_, b_);
    kernels::combine(a_.data(), q.b, b_.data(), q.c, b_.data(), side * side);
    add_to_diagonal(b_, side, q.a);  // b = P
    if (step == 0) {
      std::copy_n(b_.data(), side * side, q_.data());
    } else {
      square(b_, q_, scratch_);
      q_.swap(scratch_);
    }
    if (step + 1 < steps) {
      square(a_, b_, scratch_);
      square(scratch_, b_, a_);
    }
  }
  p.multiply(q_.data(), x_.data(), y_.data());
  x_.swap(y_);
}

void NewtonSchulz::start_bf16(const Problem& p) {
  const std::int64_t n = p.elements();
  kernels::round_bf16(x_.data(), n);
  const float norm =
      tensor::round_to_bf16(static_cast<float>(std::sqrt(kernels::sum_of_squares(x_.data(), n))));
  kernels::divide_bf16(x_.data(), n, tensor::round_to_bf16(norm + norm_eps));
}

void NewtonSchulz::run_bf16(const Problem& p, int steps) {
  const std::int64_t side = p.side(), n = p.elements();
  x16_.resize(x_.size()), a16_.resize(a_.size()), scaled16_.resize(a_.size());
  kernels::to_bf16(x_.data(), x16_.data(), n);
  for (int step = 0; step < steps; ++step) {
    const Quintic q = quintic(coefficients_, step);
    p.gram(x16_.data(), a_.data());
    // (c A) A with fixed coefficients, c (A A) with Polar Express. c A is rounded first, so that the product
    // is not quite symmetric. Computed in full: taking one half for both would leave the original by 0.029
    // instead of 0.015 (tests/golden/muon).
    const bool factor_last = coefficients_ == NsCoefficients::polar_express;
    kernels::to_bf16_scaled(a_.data(), factor_last ? 1.0f : q.c, a16_.data(), scaled16_.data(), side * side);
    gemm(false, false, side, side, side, Matrix<tensor::bf16>{scaled16_.data(), side},
         Matrix<tensor::bf16>{a16_.data(), side}, b_.data(), side);
    if (factor_last) scale_rounded(b_, q.c, side * side);
    kernels::combine_to_bf16(a16_.data(), q.b, b_.data(), a16_.data(), side * side);
    p.multiply(a16_.data(), x16_.data(), y_.data());
    kernels::combine_to_bf16(x16_.data(), q.a, y_.data(), x16_.data(), n);
  }
  kernels::from_bf16(x16_.data(), x_.data(), n);
}

/// The same with rounded floats.
void NewtonSchulz::run_rounded(const Problem& p, int steps) {
  const std::int64_t side = p.side(), n = p.elements();
  for (int step = 0; step < steps; ++step) {
    const Quintic q = quintic(coefficients_, step);
    p.gram(x_.data(), a_.data());
    kernels::round_bf16(a_.data(), side * side);
    const bool factor_last = coefficients_ == NsCoefficients::polar_express;
    kernels::scale_bf16(a_.data(), factor_last ? 1.0f : q.c, scratch_.data(), side * side);
    gemm(false, false, side, side, side, Matrix<float>{scratch_.data(), side}, Matrix<float>{a_.data(), side},
         b_.data(), side);
    kernels::round_bf16(b_.data(), side * side);
    if (factor_last) scale_rounded(b_, q.c, side * side);
    kernels::combine_bf16(a_.data(), q.b, b_.data(), b_.data(), side * side);
    p.multiply(b_.data(), x_.data(), y_.data());
    kernels::round_bf16(y_.data(), n);
    kernels::combine_bf16(x_.data(), q.a, y_.data(), x_.data(), n);
  }
}

double newton_schulz_flops(std::int64_t rows, std::int64_t columns, int steps) {
  const std::int64_t side = std::min(rows, columns), length = std::max(rows, columns);
  const double direct = direct_flops(side, length, steps);
  return use_gram(side, length, steps) ? gram_flops(side, length, steps) : direct;
}

}  // namespace fairway::optim
