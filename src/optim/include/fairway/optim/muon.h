#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/optim/newton_schulz.h"
#include "fairway/optim/state.h"
#include "fairway/optim/update_rule.h"

namespace fairway::optim {

/// One matrix in somebody else's memory, row-major [rows, columns]; both views stay put while the optimiser
/// lives.
struct MuonMatrix {
  std::string name;
  std::span<float> values;
  std::span<const float> gradient;
  std::int64_t rows = 0, columns = 0;
  double lr_factor = 1.0;
};

/// Muon over a list of matrices (docs/spec/training.md section 4), for each with gradient g after clipping:
///   B <- mu B + g;  U = g + mu B, its rows divided by their lengths where UpdateRule::row_norm says so;
///   O = NS(U) sqrt(max(1, rows / columns));  W <- W (1 - lr wd);  W <- W - lr O.
/// One thread per matrix, the costliest first: results do not depend on the number of threads.
class Muon {
 public:
  /// Allocates momentum and one workspace per thread of `pool`, which must outlive the optimiser.
  Muon(const UpdateRule& rule, std::vector<MuonMatrix> matrices, base::ThreadPool& pool);
  ~Muon();
  Muon(Muon&&) noexcept;
  Muon& operator=(Muon&&) = delete;

  /// `decay_scale` acts where the rule tapers its weight decay.
  void step(double lr, double momentum, float gradient_scale, double decay_scale = 1.0);
  void reset();  ///< momentum to zero
  /// prefix + NAME + ".momentum" (float), in the order of the matrices.
  std::vector<StateBuffer> state(const std::string& prefix);

 private:
  void update(std::size_t index, double lr, double momentum, float gradient_scale, double weight_decay);

  UpdateRule rule_;
  std::vector<MuonMatrix> matrices_;
  std::vector<std::size_t> order_;    // costliest first
  std::vector<std::size_t> offsets_;  // of each matrix in momentum_
  std::vector<float> momentum_;
  std::vector<NewtonSchulz> workspaces_;
  base::ThreadPool* pool_;
};

}  // namespace fairway::optim
