#include "fairway/optim/muon.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "fairway/base/error.h"
#include "fairway/tensor/dtype.h"
#include "kernels.h"

namespace fairway::optim {
namespace {

double cost(const MuonMatrix& matrix, int steps) {
  return newton_schulz_flops(matrix.rows, matrix.columns, steps);
}

using tensor::round_to_bf16;

/// B <- bf16(bf16(mu B) + g), U = bf16(g + mu B), of gradients in bf16 (docs/spec/caseops_training.md section
/// 4.1).
void nesterov_bf16(std::span<const float> gradient, std::span<float> momentum, std::span<float> out, float mu,
                   float scale) {
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const float g = round_to_bf16(scale * gradient[i]);
    momentum[i] = round_to_bf16(round_to_bf16(mu * momentum[i]) + g);
    out[i] = round_to_bf16(g + mu * momentum[i]);
  }
}

/// Each row over its length, or over 1e-7 where it is shorter; `narrow`: length and quotient in bf16.
void normalise_rows(std::span<float> x, std::int64_t columns, bool narrow) {
  for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(columns)) {
    auto length = static_cast<float>(std::sqrt(kernels::sum_of_squares(x.data() + at, columns)));
    if (narrow) length = round_to_bf16(length);
    const float by = std::max(length, 1e-7f);
    for (float& v : x.subspan(at, static_cast<std::size_t>(columns)))
      v = narrow ? round_to_bf16(v / by) : v / by;
  }
}

}  // namespace

Muon::Muon(const UpdateRule& rule, std::vector<MuonMatrix> matrices, base::ThreadPool& pool)
    : rule_(rule), matrices_(std::move(matrices)), pool_(&pool) {
  std::size_t total = 0;
  std::int64_t max_elements = 0, max_side = 0;
  for (const auto& matrix : matrices_) {
    const std::int64_t elements = matrix.rows * matrix.columns;
    base::check(matrix.rows > 0 && matrix.columns > 0 &&
                    matrix.values.size() == static_cast<std::size_t>(elements) &&
                    matrix.gradient.size() == matrix.values.size(),
                "muon: {} is [{}, {}] over {} values and {} gradients", matrix.name, matrix.rows,
                matrix.columns, matrix.values.size(), matrix.gradient.size());
    offsets_.push_back(total);
    total += matrix.values.size();
    max_elements = std::max(max_elements, elements);
    max_side = std::max(max_side, std::min(matrix.rows, matrix.columns));
  }
  momentum_.resize(total);
  order_.resize(matrices_.size());
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
    return cost(matrices_[a], rule_.ns_steps) > cost(matrices_[b], rule_.ns_steps);
  });
  if (!matrices_.empty())
    for (int i = 0; i < pool.threads(); ++i) workspaces_.emplace_back(max_elements, max_side);
}

Muon::~Muon() = default;
Muon::Muon(Muon&&) noexcept = default;

void Muon::step(double lr, double momentum, float gradient_scale, double decay_scale) {
  const double weight_decay = rule_.weight_decay * (rule_.tapered_decay ? decay_scale : 1.0);
  const auto body = [&](std::int64_t i) {
    update(order_[static_cast<std::size_t>(i)], lr, momentum, gradient_scale, weight_decay);
  };
  pool_->run(static_cast<std::int64_t>(order_.size()), std::cref(body));
}

void Muon::update(std::size_t index, double lr, double momentum, float gradient_scale, double weight_decay) {
  const MuonMatrix& matrix = matrices_[index];
  lr *= matrix.lr_factor;
  const std::int64_t rows = matrix.rows, columns = matrix.columns, n = rows * columns;
  NewtonSchulz& workspace = workspaces_[static_cast<std::size_t>(base::ThreadPool::thread_index())];

  const auto nesterov = workspace.input(rows, columns);
  const bool narrow = rule_.momentum_dtype == tensor::DType::bf16;
  if (narrow)
    nesterov_bf16(matrix.gradient, std::span(momentum_).subspan(offsets_[index]), nesterov,
                  static_cast<float>(momentum), gradient_scale);
  else
    kernels::nesterov(matrix.gradient.data(), momentum_.data() + offsets_[index], nesterov.data(), n,
                      static_cast<float>(momentum), gradient_scale);
  if (rule_.row_norm) normalise_rows(nesterov, columns, narrow);
  const auto direction = workspace.run(rows, columns, rule_.ns_steps, rule_.ns_dtype, rule_.ns_coefficients);

  const double shape = std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(columns)));
  const auto decay = static_cast<float>(1.0 - lr * weight_decay);
  if (rule_.ns_dtype == tensor::DType::bf16) {
    const auto scaled = workspace.input(rows, columns);  // the same memory: step 4 rounds to bf16, too
    kernels::scale_bf16(direction.data(), static_cast<float>(shape), scaled.data(), n);
    kernels::apply(matrix.values.data(), scaled.data(), n, decay, static_cast<float>(lr));
  } else {
    kernels::apply(matrix.values.data(), direction.data(), n, decay, static_cast<float>(lr * shape));
  }
}

void Muon::reset() { std::ranges::fill(momentum_, 0.0f); }

std::vector<StateBuffer> Muon::state(const std::string& prefix) {
  std::vector<StateBuffer> buffers;
  for (std::size_t i = 0; i < matrices_.size(); ++i) {
    const auto part = std::span(momentum_).subspan(offsets_[i], matrices_[i].values.size());
    buffers.push_back({prefix + matrices_[i].name + ".momentum", std::as_writable_bytes(part)});
  }
  return buffers;
}

}  // namespace fairway::optim
