// optim::Optimizer on a GPU: all state lives there, and a step is a fixed sequence of kernels.

#include <functional>

#include "cuda/decay.h"
#include "cuda/device_muon.h"
#include "cuda/mean_squares.h"
#include "cuda/range_step.h"
#include "cuda_optimizer.h"
#include "fairway/base/error.h"
#include "kernels.h"

namespace fairway::optim {
namespace {

using cuda::data_of;
using cuda::device_array;
using cuda::DeviceMuon;

class DeviceOptimizer final : public Optimizer {
 public:
  DeviceOptimizer(const OptimizerConfig& config, tensor::View values, tensor::View gradients,
                  ops::cuda::State& state)
      : state_(state),
        values_(values),
        gradients_(gradients),
        ranks_(config.ranks > 0 ? std::make_unique<cuda::RankSum>(state, gradients, config) : nullptr),
        taken_(ranks_ ? ranks_->sum() : gradients),
        averages_(config.averages),
        bf16_ranges_(bf16_ranges(config.groups, values.elements())),
        matrices_(matrices_of(config.groups)),
        ranges_(state, values, taken_, config),
        decay_(state, config.groups, values, ranges_.scheduled(), ranges_.step_state()) {
    for (auto group : config.groups) {
      if (group.rule.kind != RuleKind::muon) continue;
      if (group.rule.tapered_decay) group.rule.weight_decay = 0;  // decay_ does it
      muons_.emplace_back(state, group, values, taken_, ranges_.scheduled(), ranges_.step_state());
    }
    if (averages_.ema_decay) {
      ema_ = device_array<float>(state, elements());
      ema_count_ = device_array<std::int64_t>(state, 1);
    }
    if (averages_.swa) {
      swa_ranges_ = cuda::device_table(state, bf16_ranges_);
      swa_sum_ = device_array<float>(state, elements());
      swa_count_ = device_array<std::int64_t>(state, 1);
    }
    if (averages_.squares) squares_.emplace(state, matrices_, taken_, ranges_.step_state());
    tensor::synchronize(state.device());  // new memory is cleared on another stream than ours
    if (averages_.ema_decay) {
      tensor::copy_bytes(state.device(), ema_.data(), state.device(), values.data, values.bytes());
      if (ema_bf16()) cuda::round_values(stream(), elements(), data_of<float>(ema_));
    }
    warm_up();
  }

  void prepare(const StepValues& values) override { ranges_.send(values); }

  void enqueue() override {
    enqueue_norm();
    decay_.enqueue();
    for (auto& muon : muons_) {
      muon.enqueue_direction();
      muon.enqueue_normalise();
      muon.enqueue_iterations();
      muon.enqueue_apply();
    }
    ranges_.enqueue_update();
    if (averages_.ema_decay) enqueue_ema();
  }

  void enqueue_zero_gradients() override {
    ops::cuda::zero_on_device(state_, gradients_.data, gradients_.bytes());
    if (ranks_) ranks_->enqueue_clear();
  }
  void enqueue_add_rank() override {
    check_asked(ranks_ != nullptr, "clip by ranks");
    ranks_->enqueue_add(ranges_.step_state());
  }
  void enqueue_swa_add() override {
    check_asked(averages_.swa, "running sum");
    cuda::swa_add(stream(), ranges_.step_state(), elements(), data_of<const base::Range>(swa_ranges_),
                  static_cast<std::int64_t>(bf16_ranges_.size()), values_.as<const float>(),
                  data_of<float>(swa_sum_), data_of<const std::int64_t>(swa_count_));
    cuda::swa_count_up(stream(), ranges_.step_state(), data_of<std::int64_t>(swa_count_));
    cuda::launched("the sum of snapshots");
  }
  void enqueue_squares() override {
    check_asked(averages_.squares, "squared gradients");
    squares_->enqueue();
  }
  void enqueue_clear_flag() override { ranges_.enqueue_flag(false); }
  void enqueue_reset() override {
    ranges_.enqueue_reset();
    for (auto& muon : muons_) muon.enqueue_reset();
  }
  void enqueue_report() override { ranges_.enqueue_report(); }
  GradientNorm report() override { return ranges_.report(); }

  std::int64_t average_count(Average average) override {
    const bool ema = average == Average::ema;
    check_asked(ema ? averages_.ema_decay.has_value() : averages_.swa,
                ema ? "moving average" : "running sum");
    std::int64_t count = 0;
    fetch((ema ? ema_count_ : swa_count_).data(), std::as_writable_bytes(std::span(&count, 1)));
    return count;
  }
  void read_average(Average average, std::span<float> out) override {
    const std::int64_t count = average_count(average);
    base::check(out.size_bytes() == values_.bytes(), "average: {} values for {}", out.size(), elements());
    if (average == Average::ema) return fetch(ema_.data(), std::as_writable_bytes(out));
    base::check(count > 0, "swa: no snapshot yet");
    fetch(swa_sum_.data(), std::as_writable_bytes(out));
    kernels::divide(out.data(), elements(), static_cast<float>(count));
    for (const auto& range : bf16_ranges_) kernels::round_bf16(out.data() + range.begin, range.size());
  }
  std::map<std::string, double> mean_squares() override {
    check_asked(averages_.squares, "squared gradients");
    std::vector<double> sums(matrices_.size() + 1);
    fetch(squares_->state().bytes.data(), std::as_writable_bytes(std::span(sums)));
    return mean_by_name(matrices_, sums);
  }

  std::vector<SavedState> save() override {
    saved_.clear();
    std::vector<SavedState> pieces;
    for (const auto& piece : all_state()) {
      auto& copy = saved_.emplace_back(piece.bytes.size());
      fetch(piece.bytes.data(), copy);
      pieces.push_back({piece.name, copy});
    }
    return pieces;
  }
  void restore(const StateSource& source) override {
    state_.synchronize();
    for (const auto& piece : all_state()) {
      const auto bytes = saved_bytes(source, piece);
      tensor::copy_bytes(state_.device(), piece.bytes.data(), {}, bytes.data(), bytes.size());
    }
  }

  std::size_t bytes() override {
    std::size_t sum = ranges_.device_bytes() + decay_.device_bytes() +
                      (squares_ ? squares_->device_bytes() : 0) + (ranks_ ? ranks_->device_bytes() : 0) +
                      cuda::bytes_of({&ema_, &ema_count_, &swa_sum_, &swa_count_, &swa_ranges_});
    for (const auto& muon : muons_) sum += muon.device_bytes();
    return sum;
  }
  std::vector<Work> work() override {
    std::vector<Work> all;
    for (auto& kind : kinds()) all.push_back(std::move(kind.work));
    return all;
  }
  std::vector<Work> measure(int repeats) override {
    auto all = kinds();
    if (averages_.swa)
      all.push_back({{"swa", 12 * static_cast<double>(elements()), 0}, [this] { enqueue_swa_add(); }});
    if (squares_)
      all.push_back({{"squared gradients", 4.0 * static_cast<double>(squares_->elements()), 0},
                     [this] { enqueue_squares(); }});
    std::vector<Work> measured;
    ops::cuda::Event start(true), stop(true);
    for (auto& [work, queue] : all) {
      queue();
      start.record(state_);
      for (int i = 0; i < repeats; ++i) queue();
      stop.record(state_);
      work.milliseconds = 1e3 * stop.seconds_since(start) / repeats;
      measured.push_back(work);
    }
    return measured;
  }

 private:
  std::int64_t elements() const { return values_.elements(); }
  cudaStream_t stream() const { return cuda::stream_of(state_); }
  bool ema_bf16() const { return averages_.ema_storage == tensor::DType::bf16; }
  static void check_asked(bool asked, const char* what) {
    base::check(asked, "optimizer: no {} was asked for", what);
  }
  void fetch(const std::byte* from, std::span<std::byte> to) {
    state_.synchronize();
    tensor::copy_bytes({}, to.data(), state_.device(), from, to.size());
  }

  void enqueue_norm() {
    ranges_.enqueue_norm(averages_.ema_decay ? data_of<std::int64_t>(ema_count_) : nullptr, ranks_.get());
  }
  void enqueue_ema() {
    cuda::ema_update(stream(), {.scheduled = ranges_.scheduled(),
                                .state = ranges_.step_state(),
                                .n = elements(),
                                .keep = static_cast<float>(*averages_.ema_decay),
                                .take = static_cast<float>(1.0 - *averages_.ema_decay),
                                .bf16 = ema_bf16(),
                                .values = values_.as<const float>(),
                                .average = data_of<float>(ema_)});
    cuda::launched("the moving average");
  }

  struct Kind {
    Work work;
    std::function<void()> queue;
  };
  /// What every step does.
  std::vector<Kind> kinds() {
    const auto all = static_cast<double>(elements());
    std::vector<Kind> result{
        {{"clear gradients", (ranks_ ? 8 : 4) * all, 0}, [this] { enqueue_zero_gradients(); }},
        {{"norm", ranks_ ? 0 : 4.0 * static_cast<double>(ranges_.norm_elements()), 0},
         [this] { enqueue_norm(); }}};
    if (ranks_)
      result.push_back({{"ranks", ranks_->ranks() * ranks_->bytes_per_rank(), 0}, [this] {
                          for (int i = 0; i < ranks_->ranks(); ++i) enqueue_add_rank();
                        }});
    if (const auto n = static_cast<double>(decay_.elements()); n > 0)
      result.push_back({{"scheduled decay", 8 * n, 0}, [this] { decay_.enqueue(); }});
    for (DeviceMuon& muon : muons_) {
      const auto n = static_cast<double>(muon.elements()), width = static_cast<double>(muon.element_bytes());
      result.push_back({{"muon direction", (12 + width) * n, 0}, [&muon] { muon.enqueue_direction(); }});
      result.push_back({{"muon normalise", 2 * width * n, 0}, [&muon] { muon.enqueue_normalise(); }});
      result.push_back(
          {{"muon products", muon.product_bytes(), muon.flops()}, [&muon] { muon.enqueue_iterations(); }});
      result.push_back({{"muon apply", (8 + width) * n, 0}, [&muon] { muon.enqueue_apply(); }});
    }
    result.push_back({{"element-wise", static_cast<double>(ranges_.update_bytes()), 0},
                      [this] { ranges_.enqueue_update(); }});
    if (averages_.ema_decay) result.push_back({{"ema", 12 * all, 0}, [this] { enqueue_ema(); }});
    return result;
  }

  /// Loads every kernel and chooses every algorithm, so that a recording finds all in place. With the flag
  /// set nothing changes but workspaces.
  void warm_up() {
    ranges_.enqueue_flag(true);
    if (ranks_) enqueue_add_rank();  // clears the gradients, too
    enqueue();
    if (averages_.swa) enqueue_swa_add();
    if (squares_) enqueue_squares();
    ranges_.enqueue_flag(false);
    if (ranks_) ranks_->enqueue_clear();
    state_.synchronize();
  }

  std::vector<StateBuffer> all_state() {
    std::vector<StateBuffer> all;
    for (const auto& muon : muons_)
      for (auto& piece : muon.state()) all.push_back(std::move(piece));
    for (auto& piece : ranges_.state()) all.push_back(std::move(piece));
    const auto add = [&](const char* name, const tensor::Buffer& buffer, std::size_t bytes) {
      all.push_back({name, {buffer.data(), bytes}});
    };
    if (averages_.ema_decay) {
      add("average.ema.count", ema_count_, sizeof(std::int64_t));
      add("average.ema", ema_, values_.bytes());
    }
    if (averages_.swa) {
      add("average.swa.count", swa_count_, sizeof(std::int64_t));
      add("average.swa.sum", swa_sum_, values_.bytes());
    }
    if (squares_) all.push_back(squares_->state());
    return all;
  }

  ops::cuda::State& state_;
  tensor::View values_, gradients_;
  std::unique_ptr<cuda::RankSum> ranks_;
  tensor::View taken_;  // the gradients that a step takes
  Averages averages_;
  std::vector<base::Range> bf16_ranges_;
  std::vector<ParamRange> matrices_;
  cuda::RangeStep ranges_;
  cuda::TaperedDecay decay_;
  std::vector<DeviceMuon> muons_;
  std::optional<cuda::MeanSquares> squares_;
  tensor::Buffer ema_, ema_count_, swa_sum_, swa_count_, swa_ranges_;
  std::vector<std::vector<std::byte>> saved_;
};

}  // namespace

std::unique_ptr<Optimizer> make_cuda_optimizer(const OptimizerConfig& config, tensor::View values,
                                               tensor::View gradients, ops::cuda::State& state) {
  state.make_current();
  return std::make_unique<DeviceOptimizer>(config, values, gradients, state);
}

}  // namespace fairway::optim
