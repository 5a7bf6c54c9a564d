#include "cuda/rank_sum.h"

#include "cuda/range_step.h"
#include "shared.h"

namespace fairway::optim::cuda {

RankSum::RankSum(ops::cuda::State& state, tensor::View gradients, const OptimizerConfig& config)
    : state_(&state),
      gradients_(gradients),
      ranks_(config.ranks),
      max_norm_(config.grad_clip),
      sum_(device_array<float>(state, gradients.elements())),
      rank_state_(device_array<RankState>(state, 1)) {
  std::vector<std::int64_t> begins, sizes;
  for (const auto& range : trained_ranges(config.groups, gradients.elements(), true)) {
    begins.push_back(range.begin);
    sizes.push_back(range.size());
    norm_elements_ += range.size();
  }
  const auto pieces = pieces_of(sizes);
  piece_count_ = static_cast<std::int64_t>(pieces.size());
  pieces_ = device_table(state, pieces);
  begins_ = device_table(state, begins);
  partial_ = device_array<double>(state, piece_count_);
}

void RankSum::enqueue_clear() {
  for (const auto* buffer : {&sum_, &rank_state_})
    ops::cuda::zero_on_device(*state_, buffer->data(), buffer->bytes());
}

void RankSum::enqueue_add(const StepState* step_state) {
  const cudaStream_t stream = stream_of(*state_);
  norm_pieces(stream, {data_of<const Piece>(pieces_), piece_count_}, data_of<const std::int64_t>(begins_),
              gradients_.as<const float>(), data_of<double>(partial_));
  add_rank(stream, {.partial = data_of<const double>(partial_),
                    .pieces = piece_count_,
                    .ranks = ranks_,
                    .max_norm = max_norm_,
                    .rank = data_of<RankState>(rank_state_),
                    .state = step_state,
                    .n = gradients_.elements(),
                    .gradients = gradients_.as<float>(),
                    .sum = data_of<float>(sum_)});
  launched("the sum of ranks");
}

double RankSum::bytes_per_rank() const {
  return 4.0 * static_cast<double>(norm_elements_) + 16.0 * static_cast<double>(gradients_.elements());
}

}  // namespace fairway::optim::cuda
