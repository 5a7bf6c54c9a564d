#pragma once
// An approximate polar factor by a quintic Newton-Schulz iteration, the heart of Muon (docs/spec/training.md
// section 4; Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024).

#include <cstdint>
#include <span>
#include <vector>

#include "fairway/optim/update_rule.h"
#include "fairway/tensor/dtype.h"

namespace fairway::optim {

/// Workspace for one thread. Maps G [rows, columns] to O: X = G / (|G|_F + 1e-7), then `steps` times
///   A = X X^T,  X <- a X + (b A + c A A) X      (X^T X on the right when rows > columns)
/// with the step's coefficients (optim::quintic).
///
/// f32 keeps products symmetric and computes half of each. For oblong matrices and fixed coefficients it
/// iterates on the Gram matrix instead of X: all factors are polynomials of A and commute, so Q_{i+1} = P_i
/// Q_i and A_{i+1} = A_i P_i^2 need only small square products, and O = Q X at the end. With side ratio 3
/// that halves the work. Small singular values (below ~ 1e-2 of the largest) come out with a relative error
/// of up to about 1 % instead of 1e-5; the iteration itself leaves 30 %. bf16 rounds the result of every
/// operation to bfloat16 as the published systems do (products accumulate in fp32); it multiplies bf16 where
/// the processor does, and rounded floats elsewhere.
class NewtonSchulz {
 public:
  NewtonSchulz() = default;
  /// Room for matrices of at most `max_elements` entries whose smaller side is at most `max_side`.
  NewtonSchulz(std::int64_t max_elements, std::int64_t max_side);

  /// Where to put G, row-major; overwritten by run.
  std::span<float> input(std::int64_t rows, std::int64_t columns);
  /// O of the matrix in `input`, valid until the next call. A zero matrix gives zero.
  std::span<const float> run(std::int64_t rows, std::int64_t columns, int steps, tensor::DType dtype,
                             NsCoefficients coefficients = NsCoefficients::fixed);

 private:
  struct Problem;
  void run_direct(const Problem& p, int steps);
  void run_gram(const Problem& p, int steps);
  void start_bf16(const Problem& p);
  void run_bf16(const Problem& p, int steps);
  void run_rounded(const Problem& p, int steps);

  NsCoefficients coefficients_ = NsCoefficients::fixed;  // of this run
  std::vector<float> x_, y_;                             // [rows, columns]
  std::vector<float> a_, b_, q_, scratch_;               // [side, side]
  std::vector<tensor::bf16> x16_, a16_, scaled16_;       // x, A and c A as products take them
};

/// FLOPs that `run` spends on matrix products in f32, with fixed coefficients; what Muon balances its work
/// by.
double newton_schulz_flops(std::int64_t rows, std::int64_t columns, int steps);

}  // namespace fairway::optim
