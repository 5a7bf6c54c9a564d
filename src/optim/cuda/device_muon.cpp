#include "cuda/device_muon.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "cuda/range_step.h"
#include "fairway/base/error.h"
#include "fairway/ops/cuda_gemm.h"

namespace fairway::optim::cuda {
namespace {

constexpr std::int64_t batch_alignment = 128;  // elements: 256 bytes of bf16

/// Elements of a piece of whole rows: four rows at a time, so that pieces begin where four elements can be
/// had at once.
std::int64_t whole_rows(std::int64_t columns) {
  return std::max<std::int64_t>(piece_elements / columns / 4, 1) * 4 * columns;
}
/// The pieces of one entry of n elements, each of at most `length`.
std::vector<Piece> pieces_of(std::int64_t n, std::int64_t length) {
  std::vector<Piece> pieces;
  for (std::int64_t begin = 0; begin < n; begin += length)
    pieces.push_back({0, static_cast<std::int32_t>(std::min(length, n - begin)), begin});
  return pieces;
}

}  // namespace

DeviceMuon::DeviceMuon(ops::cuda::State& state, const ParamGroup& group, tensor::View values,
                       tensor::View gradients, const StepValues* scheduled, const StepState* step_state)
    : state_(&state),
      steps_(group.rule.ns_steps),
      coefficients_(group.rule.ns_coefficients),
      parameters_(group.parameters) {
  pass_.scheduled = scheduled;
  pass_.state = step_state;
  pass_.rate = group.rate;
  pass_.weight_decay = group.rule.weight_decay;
  pass_.bf16 = group.rule.ns_dtype == tensor::DType::bf16;
  pass_.row_norm = group.rule.row_norm;
  pass_.narrow_momentum = group.rule.momentum_dtype == tensor::DType::bf16;
  pass_.values = values.as<float>();
  pass_.gradients = gradients.as<const float>();
  place_matrices();
}

void DeviceMuon::place_matrices() {
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::size_t>> shapes;
  std::int64_t momentum = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    shapes[{parameters_[i].rows, parameters_[i].columns}].push_back(i);
    momentum_offsets_.push_back(momentum);
    momentum += padded(parameters_[i].range.size());
  }
  std::vector<Matrix> matrices;
  std::vector<Piece> all;
  std::int64_t workspace = 0, square = 0;
  for (const auto& [shape, members] : shapes) {
    const auto [rows, columns] = shape;
    const std::int64_t n = rows * columns, count = static_cast<std::int64_t>(members.size());
    const Batch batch{rows, columns, count, padded(n), padded(workspace, batch_alignment)};
    const double factor = std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(columns)));
    for (std::size_t k = 0; k < members.size(); ++k) {
      const auto pieces = pass_.row_norm ? pieces_of(n, whole_rows(columns)) : pieces_of(n, piece_elements);
      matrices.push_back({.begin = parameters_[members[k]].range.begin,
                          .momentum = momentum_offsets_[members[k]],
                          .workspace = batch.workspace + static_cast<std::int64_t>(k) * batch.stride,
                          .first_piece = static_cast<std::int32_t>(all.size()),
                          .pieces = static_cast<std::int32_t>(pieces.size()),
                          .columns = static_cast<std::int32_t>(columns),
                          .shape = factor,
                          .lr_factor = parameters_[members[k]].lr_factor});
      for (auto piece : pieces) {
        piece.entry = static_cast<std::int32_t>(matrices.size()) - 1;
        all.push_back(piece);
      }
    }
    elements_ += n * count;
    workspace = batch.workspace + batch.stride * count;
    square = std::max(square, count * padded(batch.side() * batch.side()));
    batches_.push_back(batch);
  }
  const auto width = static_cast<std::int64_t>(element_bytes());
  const auto pieces = static_cast<std::int64_t>(all.size());
  pieces_ = device_table(*state_, all);
  matrices_ = device_table(*state_, matrices);
  momentum_ = device_array<float>(*state_, momentum);
  partial_ = device_array<double>(*state_, pieces);
  x_ = device_array<std::byte>(*state_, workspace * width);
  y_ = device_array<std::byte>(*state_, workspace * width);
  gram_ = device_array<std::byte>(*state_, square * width);
  factor_ = device_array<std::byte>(*state_, square * width);

  pass_.pieces = {data_of<const Piece>(pieces_), pieces};
  pass_.matrices = data_of<const Matrix>(matrices_);
  pass_.momentum = data_of<float>(momentum_);
  pass_.x = x_.data();
  pass_.o = steps_ % 2 == 0 ? x_.data() : y_.data();  // iterations go back and forth
  pass_.partial = data_of<double>(partial_);
}

void DeviceMuon::enqueue_direction() {
  muon_direction(stream_of(*state_), pass_);
  launched("Muon's momentum");
}

void DeviceMuon::enqueue_normalise() {
  muon_normalise(stream_of(*state_), pass_);
  launched("Muon's norms");
}

void DeviceMuon::enqueue_iterations() {
  const auto width = static_cast<std::int64_t>(element_bytes());
  for (const Batch& batch : batches_) {
    std::byte *x = x_.data() + batch.workspace * width, *y = y_.data() + batch.workspace * width;
    for (int step = 0; step < steps_; ++step) {
      iterate(batch, quintic(coefficients_, step), x, y);
      std::swap(x, y);
    }
  }
}

/// y = x's next iterate: A = X X^T, B = c A A + b A, Y = B X + a X; on the other side for tall matrices, with
/// the transpose of B, which in bf16 is not quite symmetric. Sums and linear combinations are in fp32, each
/// result is rounded once.
void DeviceMuon::iterate(const Batch& batch, const Quintic& q, const std::byte* x, std::byte* y) {
  using ops::cuda::BatchedGemm;
  const auto type = pass_.bf16 ? tensor::DType::bf16 : tensor::DType::f32;
  const std::int64_t side = batch.side(), square = padded(side * side);
  BatchedGemm gram{.m = side,
                   .n = side,
                   .k = batch.length(),
                   .batches = batch.count,
                   .transpose_a = batch.tall(),
                   .transpose_b = !batch.tall(),
                   .operands = type,
                   .result = type,
                   .stride_a = batch.stride,
                   .stride_b = batch.stride,
                   .stride_c = square,
                   .stride_d = square};
  ops::cuda::multiply(*state_, gram, x, x, nullptr, gram_.data());

  BatchedGemm factor = gram;
  factor.k = side;
  factor.transpose_a = factor.transpose_b = false;
  factor.stride_a = factor.stride_b = square;
  factor.alpha = q.c;
  factor.beta = q.b;
  ops::cuda::multiply(*state_, factor, gram_.data(), gram_.data(), gram_.data(), factor_.data());

  BatchedGemm next = factor;
  next.m = batch.rows;
  next.n = batch.columns;
  next.transpose_b = batch.tall();
  next.stride_a = batch.tall() ? batch.stride : square;
  next.stride_b = batch.tall() ? square : batch.stride;
  next.stride_c = next.stride_d = batch.stride;
  next.alpha = 1.0f;
  next.beta = q.a;
  const void* f = factor_.data();
  const void* left = batch.tall() ? x : f;
  const void* right = batch.tall() ? f : x;
  ops::cuda::multiply(*state_, next, left, right, x, y);
}

void DeviceMuon::enqueue_apply() {
  muon_apply(stream_of(*state_), pass_);
  launched("Muon's step");
}

void DeviceMuon::enqueue_reset() { ops::cuda::zero_on_device(*state_, momentum_.data(), momentum_.bytes()); }

std::vector<StateBuffer> DeviceMuon::state() const {
  std::vector<StateBuffer> pieces;
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    pieces.push_back({"muon." + parameters_[i].name + ".momentum",
                      {reinterpret_cast<std::byte*>(data_of<float>(momentum_) + momentum_offsets_[i]),
                       static_cast<std::size_t>(parameters_[i].range.size()) * sizeof(float)}});
  return pieces;
}

double DeviceMuon::flops() const {
  double total = 0;
  for (const Batch& b : batches_) {
    const auto side = static_cast<double>(b.side()), length = static_cast<double>(b.length());
    total += static_cast<double>(b.count) * 2 * side * side * (2 * length + side);
  }
  return total * steps_;
}

double DeviceMuon::product_bytes() const {
  double total = 0;
  for (const Batch& b : batches_) {
    const auto side = static_cast<double>(b.side()), length = static_cast<double>(b.length());
    // X read twice and once more to be added, the next X written; A written and read twice, B written and
    // read.
    total += static_cast<double>(b.count) * (4 * side * length + 5 * side * side);
  }
  return total * steps_ * static_cast<double>(element_bytes());
}

std::size_t DeviceMuon::device_bytes() const {
  return bytes_of({&pieces_, &matrices_, &momentum_, &partial_, &x_, &y_, &gram_, &factor_});
}

}  // namespace fairway::optim::cuda
