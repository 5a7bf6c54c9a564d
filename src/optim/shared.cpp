#include "shared.h"

#include <algorithm>

#include "fairway/base/error.h"

namespace fairway::optim {
namespace {

void check_group(const ParamGroup& group) {
  const bool bf16 = group.storage == tensor::DType::bf16, muon = group.rule.kind == RuleKind::muon;
  base::check(bf16 || group.storage == tensor::DType::f32, "optimizer: stored as {}",
              tensor::dtype_name(group.storage));
  base::check(group.rate >= 0 && group.rate < StepValues::rates, "optimizer: rate {}", group.rate);
  base::check(!muon || !bf16, "optimizer: Muon's matrices are stored in f32");
  for (const auto& p : group.parameters) {
    const bool matrix = p.rows > 0 && p.columns > 0 && p.rows * p.columns == p.range.size();
    base::check(matrix || (!muon && p.rows == 0 && p.columns == 0),
                "optimizer: {} is [{}, {}] of {} elements", p.name, p.rows, p.columns, p.range.size());
  }
}

std::vector<base::Range> sorted(std::vector<ParamRange> parameters, std::int64_t elements, bool join) {
  std::ranges::sort(parameters, {}, [](const ParamRange& p) { return p.range.begin; });
  std::vector<base::Range> ranges;
  for (const auto& p : parameters) {
    const auto [begin, end] = p.range;
    base::check(begin >= 0 && begin <= end && end <= elements, "optimizer: {} is [{}, {}) of {} parameters",
                p.name, begin, end, elements);
    const auto before = ranges.empty() ? -1 : ranges.back().end;
    base::check(begin >= before, "optimizer: {} overlaps another parameter", p.name);
    if (join && begin == before)
      ranges.back().end = end;
    else
      ranges.push_back(p.range);
  }
  return ranges;
}

}  // namespace

std::vector<base::Range> trained_ranges(const std::vector<ParamGroup>& groups, std::int64_t elements,
                                        bool join) {
  std::vector<ParamRange> all;
  for (const auto& group : groups) {
    check_group(group);
    all.insert(all.end(), group.parameters.begin(), group.parameters.end());
  }
  return sorted(std::move(all), elements, join);
}

std::vector<ParamRange> matrices_of(const std::vector<ParamGroup>& groups) {
  std::vector<ParamRange> matrices;
  for (const auto& group : groups)
    std::ranges::copy_if(group.parameters, std::back_inserter(matrices),
                         [](const ParamRange& p) { return p.rows > 0; });
  return matrices;
}

std::vector<base::Range> bf16_ranges(const std::vector<ParamGroup>& groups, std::int64_t elements) {
  std::vector<ParamRange> all;
  for (const auto& group : groups)
    if (group.storage == tensor::DType::bf16)
      all.insert(all.end(), group.parameters.begin(), group.parameters.end());
  return sorted(std::move(all), elements, true);
}

std::map<std::string, double> mean_by_name(const std::vector<ParamRange>& matrices,
                                           std::span<const double> sums) {
  std::map<std::string, double> means;
  if (sums.back() == 0) return means;
  for (std::size_t i = 0; i < matrices.size(); ++i) means[matrices[i].name] = sums[i] / sums.back();
  return means;
}

std::span<const std::byte> saved_bytes(const StateSource& source, const StateBuffer& piece) {
  const auto bytes = source(piece.name, piece.bytes.size());
  base::check(bytes.empty() || bytes.size() == piece.bytes.size(), "optimizer: {} bytes for {}, which has {}",
              bytes.size(), piece.name, piece.bytes.size());
  return bytes;
}

int ReportSlots::next() {
  base::check(filled_ - read_ < Optimizer::max_reports, "optimizer: {} reports are not read yet",
              filled_ - read_);
  return static_cast<int>(filled_++ % Optimizer::max_reports);
}

int ReportSlots::oldest() {
  base::check(read_ < filled_, "optimizer: no report was asked for");
  return static_cast<int>(read_++ % Optimizer::max_reports);
}

}  // namespace fairway::optim
