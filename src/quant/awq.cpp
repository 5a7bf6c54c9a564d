#include "fairway/quant/awq.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace fairway::quant {

std::vector<double> group_scores(std::span<const float> values, std::int64_t columns,
                                 std::span<const float> hessian, std::int64_t group) {
  const auto c = static_cast<std::size_t>(columns), size = static_cast<std::size_t>(group);
  std::vector<double> magnitude(c), scores(c / size);
  for (std::size_t i = 0; i < values.size(); ++i) magnitude[i % c] += std::fabs(values[i]);
  const auto rows = static_cast<double>(values.size() / c);
  for (std::size_t j = 0; j < scores.size() * size; ++j)
    scores[j / size] += std::sqrt(std::max(0.0, double{hessian[j * c + j]})) * magnitude[j] / rows;
  return scores;
}

std::vector<std::vector<std::int64_t>> best_groups(std::span<const std::vector<double>> scores,
                                                   const AwqOptions& options) {
  std::vector<std::tuple<double, std::size_t, std::int64_t>> order;
  for (std::size_t i = 0; i < scores.size(); ++i)
    for (std::size_t g = 0; g < scores[i].size(); ++g)
      order.emplace_back(-scores[i][g], i, static_cast<std::int64_t>(g) * options.columns);
  std::ranges::sort(order);
  order.resize(std::min(order.size(), static_cast<std::size_t>(options.groups)));
  std::vector<std::vector<std::int64_t>> starts(scores.size());
  for (const auto& [score, tensor, start] : order) starts[tensor].push_back(start);
  for (auto& s : starts) std::ranges::sort(s);
  return starts;
}

}  // namespace fairway::quant
