#include "cuda/decay.h"

#include "cuda/range_step.h"

namespace fairway::optim::cuda {

TaperedDecay::TaperedDecay(ops::cuda::State& state, const std::vector<ParamGroup>& groups,
                           tensor::View values, const StepValues* scheduled, const StepState* step_state)
    : state_(&state), values_(values.as<float>()), scheduled_(scheduled), step_state_(step_state) {
  std::vector<DecayedMatrix> matrices;
  std::vector<std::int64_t> sizes;
  for (const auto& group : groups)
    if (group.rule.kind == RuleKind::muon && group.rule.tapered_decay)
      for (const auto& p : group.parameters) {
        matrices.push_back({p.range.begin, p.lr_factor, group.rule.weight_decay, group.rate});
        sizes.push_back(p.range.size());
        elements_ += p.range.size();
      }
  const auto pieces = pieces_of(sizes);
  piece_count_ = static_cast<std::int64_t>(pieces.size());
  pieces_ = device_table(state, pieces);
  matrices_ = device_table(state, matrices);
}

void TaperedDecay::enqueue() {
  decay_matrices(stream_of(*state_), {.pieces = {data_of<const Piece>(pieces_), piece_count_},
                                      .matrices = data_of<const DecayedMatrix>(matrices_),
                                      .scheduled = scheduled_,
                                      .state = step_state_,
                                      .values = values_});
  launched("the scheduled weight decay");
}

}  // namespace fairway::optim::cuda
