// optim::Optimizer on the CPU: each call does its work at once.

#include <algorithm>
#include <array>

#include "cuda_optimizer.h"
#include "fairway/base/error.h"
#include "fairway/optim/average.h"
#include "fairway/optim/muon.h"
#include "range_update.h"
#include "rank_sum.h"
#include "shared.h"

namespace fairway::optim {
namespace {

std::vector<MuonMatrix> muon_matrices(const ParamGroup& group, std::span<float> values,
                                      std::span<const float> gradients) {
  std::vector<MuonMatrix> matrices;
  for (const auto& p : group.parameters)
    matrices.push_back({p.name, p.range.of(values), p.range.of(gradients), p.rows, p.columns, p.lr_factor});
  return matrices;
}

std::vector<std::span<const float>> parts_of(std::span<const float> flat,
                                             const std::vector<base::Range>& ranges) {
  std::vector<std::span<const float>> parts;
  for (const auto& range : ranges) parts.push_back(range.of(flat));
  return parts;
}

class HostOptimizer final : public Optimizer {
 public:
  HostOptimizer(const OptimizerConfig& config, std::span<float> values, std::span<float> gradients,
                base::ThreadPool& pool)
      : grad_clip_(config.grad_clip),
        values_(values),
        gradients_(gradients),
        pool_(pool),
        normer_(parts_of(gradients, trained_ranges(config.groups, static_cast<std::int64_t>(values.size()),
                                                   !config.norm_by_range))) {
    if (config.ranks > 0) ranks_.emplace(config.ranks, config.grad_clip, gradients.size());
    taken_ = ranks_ ? ranks_->sum() : gradients_;
    for (const auto& group : config.groups)
      if (group.rule.kind == RuleKind::muon)
        muons_.push_back({group.rate, Muon(group.rule, muon_matrices(group, values, taken_), pool)});
      else
        for (const auto& p : group.parameters) ranges_.emplace_back(group, p, values, taken_);
    const auto& averages = config.averages;
    if (averages.ema_decay) ema_.emplace(*averages.ema_decay, values, averages.ema_storage);
    const auto elements = static_cast<std::int64_t>(values.size());
    if (averages.swa) swa_.emplace(elements, bf16_ranges(config.groups, elements));
    if (averages.squares) squares_.emplace(matrices_of(config.groups));
  }

  void prepare(const StepValues& values) override { step_ = values; }

  void enqueue() override {
    norm_ = ranks_ ? ranks_->norm() : normer_(pool_);
    bad_ = bad_ || !norm_.finite;
    if (bad_) return;
    const float clip = ranks_ ? 1.0f : clip_factor(norm_.norm, grad_clip_);
    for (auto& group : muons_) group.muon.step(step_.lr[group.rate], step_.momentum, clip, step_.decay_scale);
    for (auto& range : ranges_) range.step(step_, clip, pool_);
    if (ema_ && step_.ema == EmaStep::start) ema_->start(values_);
    if (ema_ && step_.ema == EmaStep::update) ema_->update(values_, pool_);
  }

  void enqueue_zero_gradients() override {
    std::ranges::fill(gradients_, 0.0f);
    if (ranks_) ranks_->clear();
  }
  void enqueue_add_rank() override { wanted(ranks_, "clip by ranks").add(gradients_, normer_(pool_), pool_); }
  void enqueue_swa_add() override {
    auto& sum = swa();
    if (!bad_) sum.add(values_, pool_);
  }
  void enqueue_squares() override {
    auto& sums = squares();
    if (!bad_) sums.add(taken_, pool_);
  }
  void enqueue_clear_flag() override { bad_ = false; }
  void enqueue_reset() override {
    for (auto& group : muons_) group.muon.reset();
    for (auto& range : ranges_) range.reset();
  }
  void enqueue_report() override { reports_[static_cast<std::size_t>(slots_.next())] = {norm_.norm, !bad_}; }
  GradientNorm report() override { return reports_[static_cast<std::size_t>(slots_.oldest())]; }

  std::int64_t average_count(Average average) override {
    return average == Average::ema ? ema().count() : swa().count();
  }
  void read_average(Average average, std::span<float> out) override {
    if (average == Average::swa) return swa().mean(out, pool_);
    const auto values = ema().values();
    base::check(out.size() == values.size(), "ema: {} values for {}", out.size(), values.size());
    std::ranges::copy(values, out.begin());
  }
  std::map<std::string, double> mean_squares() override { return squares().mean(); }

  std::vector<SavedState> save() override {
    std::vector<SavedState> saved;
    for (const auto& piece : state()) saved.push_back({piece.name, piece.bytes});
    return saved;
  }
  void restore(const StateSource& source) override {
    for (const auto& piece : state()) std::ranges::copy(saved_bytes(source, piece), piece.bytes.begin());
  }
  std::size_t bytes() override {
    std::size_t sum = ranks_ ? ranks_->sum().size_bytes() : 0;
    for (const auto& piece : state()) sum += piece.bytes.size();
    return sum;
  }

 private:
  struct MuonGroup {
    int rate;
    Muon muon;
  };
  template <class T>
  static T& wanted(std::optional<T>& average, const char* what) {
    base::check(average.has_value(), "optimizer: no {} was asked for", what);
    return *average;
  }
  Ema& ema() { return wanted(ema_, "moving average"); }
  Swa& swa() { return wanted(swa_, "running sum"); }
  MeanSquares& squares() { return wanted(squares_, "squared gradients"); }

  std::vector<StateBuffer> state() {
    std::vector<StateBuffer> all;
    const auto append = [&](const std::vector<StateBuffer>& more) {
      all.insert(all.end(), more.begin(), more.end());
    };
    for (auto& group : muons_) append(group.muon.state("muon."));
    for (auto& range : ranges_) append(range.state());
    if (ema_) append(ema_->state("average."));
    if (swa_) append(swa_->state("average."));
    if (squares_) append(squares_->state());
    return all;
  }

  double grad_clip_;
  std::span<float> values_, gradients_;
  base::ThreadPool& pool_;
  GradientNormer normer_;
  std::optional<RankSum> ranks_;
  std::span<const float> taken_;  // the gradients that a step takes
  std::vector<MuonGroup> muons_;
  std::vector<RangeUpdate> ranges_;
  std::optional<Ema> ema_;
  std::optional<Swa> swa_;
  std::optional<MeanSquares> squares_;
  StepValues step_;
  GradientNorm norm_;
  bool bad_ = false;
  std::array<GradientNorm, max_reports> reports_;
  ReportSlots slots_;
};

}  // namespace

GradientNorm Optimizer::step(const StepValues& values) {
  prepare(values);
  enqueue();
  enqueue_report();
  return report();
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, tensor::View values,
                                          tensor::View gradients, base::ThreadPool* pool,
                                          ops::cuda::State* cuda) {
  base::check(values && gradients && values.elements() == gradients.elements(),
              "optimizer: {} values, {} gradients", values.elements(), gradients.elements());
  if (cuda) return make_cuda_optimizer(config, values, gradients, *cuda);
  base::check(pool != nullptr, "optimizer: neither threads nor a GPU");
  return std::make_unique<HostOptimizer>(config, values.span<float>(), gradients.span<float>(), *pool);
}

}  // namespace fairway::optim
