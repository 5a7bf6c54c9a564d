// A whole model by a policy: what is decided over all of its tensors, and each of them by its rule.
#include <algorithm>
#include <cmath>

#include "factor.h"
#include "fairway/base/error.h"
#include "fairway/quant/hadamard.h"
#include "fairway/quant/policy.h"

namespace fairway::quant {
namespace {

class ModelQuantizer {
 public:
  ModelQuantizer(const QuantPolicy& policy, std::span<const Source> sources, base::ThreadPool& pool,
                 const Hessians& hessians, const std::function<void()>& between)
      : policy_(policy), sources_(sources), pool_(pool), hessians_(hessians), between_(between) {}

  std::vector<QuantizedTensor> run() {
    const auto fine = fine_columns();
    std::vector<QuantizedTensor> result;
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      pause();
      result.push_back(quantised(sources_[i], fine.empty() ? std::vector<std::int64_t>{} : fine[i]));
    }
    put_errors_back(result);
    return result;
  }

 private:
  void pause() const {
    if (between_) between_();
  }
  bool by_gptq(const Source& s) const { return !policy_.rule_for(s.info).quantize; }

  const std::vector<float>& hessian(const Source& s) const {
    const auto found = hessians_.find(s.info.name);
    if (found == hessians_.end())
      base::fail_input(
          "{}: {} needs the Hessian of what it multiplies, and there is none; quantise it in `fairway "
          "run`, which calibrates, or by another rule",
          s.info.name, policy_.rule_for(s.info).name);
    const auto n = s.info.shape.columns();
    if (std::ssize(found->second) != n * n)
      base::fail_input("{}: a Hessian of {} values for rows of {}", s.info.name, found->second.size(), n);
    return found->second;
  }

  float threshold(const Source& s) const {
    if (!policy_.prunes(s.info.shape)) return 0;
    const auto& prune = policy_.prune;
    return std::max(prune_threshold(s.values, prune.share, s.bf16), static_cast<float>(prune.below));
  }

  /// What is quantised: the values, or in `copy` those that pruning leaves, in the basis of the tensor's.
  std::span<const float> prepared(const Source& s, std::vector<float>& copy) const {
    const bool integers = policy_.rule_for(s.info).kind != Kind::fp16;
    const bool prunes = policy_.prunes(s.info.shape) && !(policy_.prune.when == PruneWhen::after && integers);
    if (!prunes) return s.values;
    copy.assign(s.values.begin(), s.values.end());
    prune_below(copy, threshold(s));
    return copy;
  }
  std::span<const float> in_basis(const Source& s, std::vector<float>& copy) const {
    const auto values = prepared(s, copy);
    if (!policy_.rotates(s.info)) return values;
    if (values.data() != copy.data()) copy.assign(values.begin(), values.end());
    check_rotatable(s.info.name, s.info.shape.columns());
    rotate_rows(copy, s.info.shape.columns(), pool_);
    return copy;
  }

  std::vector<std::vector<std::int64_t>> fine_columns() {
    if (policy_.awq.groups == 0) return {};
    std::vector<std::vector<double>> scores;
    for (const auto& s : sources_) {
      scores.emplace_back();
      if (!by_gptq(s)) continue;
      pause();
      std::vector<float> copy, turned = hessian(s);
      const auto n = s.info.shape.columns();
      const auto values = in_basis(s, copy);
      if (policy_.rotates(s.info)) rotate_both(turned, n, pool_);
      scores.back() = group_scores(values, n, turned, policy_.awq.columns);
      // Values that are none are GPTQ's to name.
      if (!std::ranges::all_of(scores.back(), [](double v) { return std::isfinite(v); }))
        scores.back().clear();
    }
    return best_groups(scores, policy_.awq);
  }

  QuantizedTensor quantised(const Source& s, std::vector<std::int64_t> fine) {
    const Rule& rule = policy_.rule_for(s.info);
    std::vector<float> copy;
    const auto values = prepared(s, copy);
    const auto by_rule = [&] {
      if (rule.quantize) return rule.quantize(s.info.name, values, s.info.shape, pool_);
      const GptqOptions options{.q_max = rule.q_max,
                                .clip = policy_.clip_for(s.info.category),
                                .damping = policy_.damping_for(s.info.category),
                                .rotated = policy_.rotates(s.info),
                                .fine = {policy_.awq.columns, std::move(fine), {}}};
      return quantize_gptq(s.info.name, values, s.info.shape, hessian(s), options, pool_, &factors_);
    };
    auto result = by_rule();
    if (policy_.prunes(s.info.shape) && policy_.prune.when == PruneWhen::after && rule.kind != Kind::fp16) {
      const float least = threshold(s);
      for (std::size_t i = 0; i < values.size(); ++i)
        if (std::fabs(values[i]) < least) result.q[i] = 0;
    }
    return result;
  }

  /// LQER: where the squared error over the whole tensor is largest, ties to the earlier tensor.
  void put_errors_back(std::vector<QuantizedTensor>& tensors) const {
    const auto& o = policy_.lqer;
    if (o.tensors == 0) return;
    std::vector<std::pair<double, std::size_t>> order;
    std::vector<float> copy, error;
    for (std::size_t i = 0; i < sources_.size(); ++i)
      if (by_gptq(sources_[i]))
        order.emplace_back(-squared_residual(in_basis(sources_[i], copy), tensors[i], pool_), i);
    std::ranges::sort(order);
    order.resize(std::min(order.size(), static_cast<std::size_t>(o.tensors)));
    for (const auto& [lost, i] : order) {
      pause();
      auto& t = tensors[i];
      squared_residual(in_basis(sources_[i], copy), t, pool_, &error);
      const auto columns = t.shape.columns();
      const auto rank = std::min({o.rank, t.shape.rows(), columns});
      t.low_rank = pack_low_rank(low_rank(error, columns, rank, pool_), rank, o.group);
    }
  }

  const QuantPolicy& policy_;
  std::span<const Source> sources_;
  base::ThreadPool& pool_;
  const Hessians& hessians_;
  const std::function<void()>& between_;
  Factors factors_;
};

}  // namespace

std::vector<QuantizedTensor> quantize_model(const QuantPolicy& policy, std::span<const Source> sources,
                                            base::ThreadPool& pool, const Hessians& hessians,
                                            const std::function<void()>& between) {
  return ModelQuantizer(policy, sources, pool, hessians, between).run();
}

QuantizedTensor quantize(const QuantPolicy& policy, const TensorInfo& tensor, std::span<const float> values,
                         bool bf16, base::ThreadPool& pool, const Hessians& hessians) {
  const Source source{tensor, values, bf16};
  return std::move(quantize_model(policy, std::span(&source, 1), pool, hessians).front());
}

}  // namespace fairway::quant
