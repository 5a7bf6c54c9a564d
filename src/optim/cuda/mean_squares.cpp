#include "cuda/mean_squares.h"

#include "cuda/range_step.h"

namespace fairway::optim::cuda {

MeanSquares::MeanSquares(ops::cuda::State& state, const std::vector<ParamRange>& matrices,
                         tensor::View gradients, const StepState* step_state)
    : state_(&state),
      gradients_(gradients.as<const float>()),
      step_state_(step_state),
      count_(static_cast<std::int64_t>(matrices.size())) {
  std::vector<std::int64_t> sizes, begins;
  for (const auto& m : matrices) {
    sizes.push_back(m.range.size());
    begins.push_back(m.range.begin);
    elements_ += sizes.back();
  }
  const auto pieces = pieces_of(sizes);
  std::vector<SquaredMatrix> entries;
  for (const std::int64_t size : sizes) {
    const auto own = (size + piece_elements - 1) / piece_elements;
    entries.push_back({piece_count_, own, static_cast<double>(size)});
    piece_count_ += own;
  }
  pieces_ = device_table(state, pieces);
  begins_ = device_table(state, begins);
  matrices_ = device_table(state, entries);
  partial_ = device_array<double>(state, piece_count_);
  sums_ = device_array<double>(state, count_ + 1);
}

void MeanSquares::enqueue() {
  const cudaStream_t stream = stream_of(*state_);
  norm_pieces(stream, {data_of<const Piece>(pieces_), piece_count_}, data_of<const std::int64_t>(begins_),
              gradients_, data_of<double>(partial_));
  add_mean_squares(stream, {.partial = data_of<const double>(partial_),
                            .matrices = data_of<const SquaredMatrix>(matrices_),
                            .count = count_,
                            .state = step_state_,
                            .sums = data_of<double>(sums_)});
  launched("the matrices' squared gradients");
}

StateBuffer MeanSquares::state() const {
  return {"sensitivity.sums", {sums_.data(), static_cast<std::size_t>(count_ + 1) * sizeof(double)}};
}

std::size_t MeanSquares::device_bytes() const {
  return bytes_of({&pieces_, &begins_, &matrices_, &partial_, &sums_});
}

}  // namespace fairway::optim::cuda
