#include "fairway/quant/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "fairway/base/error.h"
#include "quantile.h"
#include "row_kernels.h"

namespace fairway::quant {
namespace {

constexpr std::array clip_candidates = {0.9990f, 0.9995f, 0.9999f, 0.99999f, 1.0f};
constexpr float int8_clip = 0.9999984f;
constexpr float int8_max = 127.0f;
constexpr std::int64_t chunk_elements = 65'536;  // what a thread takes at a time

/// A tensor's rows, its buffers for the result and the checks they share.
struct Rows {
  Rows(QuantizedTensor& tensor_, std::span<const float> values_) : tensor(tensor_), values(values_) {
    base::check(tensor.shape.elements() == static_cast<std::int64_t>(values.size()),
                "quant: {} is {} over {} values", tensor.name, tensor.shape.str(), values.size());
    count = values.empty() ? 0 : tensor.shape.rows();
    columns = tensor.shape.columns();
  }
  const float* row(std::int64_t r) const { return values.data() + r * columns; }

  /// Calls body(r, scratch of one row) for each row, on all threads.
  template <class Body>
  void for_each(base::ThreadPool& pool, const Body& body) const {
    if (count == 0) return;
    const std::int64_t step = std::max<std::int64_t>(1, chunk_elements / columns);
    pool.run((count + step - 1) / step, [&](std::int64_t chunk) {
      std::vector<float> scratch(static_cast<std::size_t>(columns));
      for (std::int64_t r = chunk * step; r < std::min(count, (chunk + 1) * step); ++r) body(r, scratch);
    });
  }

  /// |row| into `magnitudes`; rejects what no grid can express.
  void read_magnitudes(std::int64_t r, std::span<float> magnitudes) const {
    const float bad = kernels::magnitudes(row(r), columns, magnitudes.data());
    if (bad != 0.0f)
      base::fail_input("{}: row {} holds a NaN or an infinity; cannot be quantised", tensor.name, r);
  }

  tensor::f16 to_scale(std::int64_t r, float scale) const {
    const auto rounded = tensor::to_f16(scale);
    if (!std::isfinite(tensor::to_float(rounded)))
      base::fail_input("{}: row {} needs a scale of {}, more than fp16 can hold; cannot be quantised",
                       tensor.name, r, scale);
    return rounded;
  }

  void allocate() {
    tensor.q.resize(values.size());
    tensor.scales.resize(static_cast<std::size_t>(count));
  }
  std::int8_t* q(std::int64_t r) const { return tensor.q.data() + r * columns; }
  tensor::f16& scale(std::int64_t r) const { return tensor.scales[static_cast<std::size_t>(r)]; }

  QuantizedTensor& tensor;
  std::span<const float> values;
  std::int64_t count = 0, columns = 0;
};

/// max(clip, 1) / q_max with both quotients rounded on their own, as the original computes it. The floor
/// keeps small rows on one fixed coarse grid, which is what the entropy coder lives on (section 2c).
float floored_scale(float clip, int q_max) {
  const auto steps = static_cast<float>(q_max);
  return std::max(clip / steps, static_cast<float>(1.0 / q_max));
}

Kind kind_of(int q_max) {
  base::check(q_max == 63 || q_max == 31 || q_max == 15, "quant: q_max is 63, 31 or 15, not {}", q_max);
  return q_max == 63 ? Kind::int7 : q_max == 31 ? Kind::int6 : Kind::int5;
}

/// Quantiles of |row| at all clip candidates; reorders `magnitudes`.
std::array<float, clip_candidates.size()> row_clips(std::span<float> magnitudes) {
  const auto n = static_cast<std::int64_t>(magnitudes.size());
  // All candidates lie near the top: one partition, then the few values above it are sorted.
  const auto lowest = magnitudes.begin() + quantile_position(clip_candidates.front(), n).below;
  std::nth_element(magnitudes.begin(), lowest, magnitudes.end());
  std::sort(lowest, magnitudes.end());
  std::array<float, clip_candidates.size()> clips;
  for (std::size_t i = 0; i < clips.size(); ++i) {
    const auto at = quantile_position(clip_candidates[i], n);
    clips[i] = interpolate(magnitudes[static_cast<std::size_t>(at.below)],
                           magnitudes[static_cast<std::size_t>(at.above)], at.weight);
  }
  return clips;
}

/// The first of the smallest mean errors; means are fp32, as in the original.
std::size_t best_candidate(const std::array<double, clip_candidates.size()>& sums, std::size_t count) {
  const auto mean = [&](std::size_t i) {
    return static_cast<float>(sums[i] / static_cast<double>(std::max<std::size_t>(count, 1)));
  };
  std::size_t best = 0;
  for (std::size_t i = 1; i < sums.size(); ++i)
    if (mean(i) < mean(best)) best = i;
  return best;
}

}  // namespace

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::fp16:
      return "fp16";
    case Kind::int6:
      return "int6";
    case Kind::int8:
      return "int8";
    case Kind::int5:
      return "int5";
    case Kind::int7:
      return "int7";
  }
  return "unknown";
}

QuantizedTensor quantize_rowmax(std::string name, std::span<const float> values, tensor::Shape shape,
                                int q_max, base::ThreadPool& pool) {
  QuantizedTensor result{std::move(name), shape, kind_of(q_max), {}, {}, {}};
  Rows rows(result, values);
  rows.allocate();
  rows.for_each(pool, [&](std::int64_t r, std::span<float> magnitudes) {
    rows.read_magnitudes(r, magnitudes);
    const auto scale =
        rows.to_scale(r, floored_scale(kernels::largest(magnitudes.data(), rows.columns), q_max));
    rows.scale(r) = scale;
    kernels::quantize(rows.row(r), rows.columns, tensor::to_float(scale), static_cast<float>(-q_max - 1),
                      static_cast<float>(q_max), rows.q(r));
  });
  return result;
}

QuantizedTensor quantize_search(std::string name, std::span<const float> values, tensor::Shape shape,
                                int q_max, ClipSearch search, base::ThreadPool& pool) {
  QuantizedTensor result{std::move(name), shape, kind_of(q_max), {}, {}, {}};
  Rows rows(result, values);
  rows.allocate();
  const auto bound = static_cast<float>(q_max);

  struct RowTrial {
    std::array<tensor::f16, clip_candidates.size()> scales;
    std::array<double, clip_candidates.size()> errors;
  };
  std::vector<RowTrial> trials(static_cast<std::size_t>(rows.count));
  rows.for_each(pool, [&](std::int64_t r, std::span<float> magnitudes) {
    rows.read_magnitudes(r, magnitudes);
    const auto clips = row_clips(magnitudes);
    RowTrial& trial = trials[static_cast<std::size_t>(r)];
    for (std::size_t i = 0; i < clips.size(); ++i) {
      trial.scales[i] = rows.to_scale(r, floored_scale(clips[i], q_max));
      // Below the floor all candidates are the same grid.
      trial.errors[i] = i > 0 && trial.scales[i].bits == trial.scales[i - 1].bits
                            ? trial.errors[i - 1]
                            : kernels::squared_error(rows.row(r), rows.columns,
                                                     tensor::to_float(trial.scales[i]), -bound, bound);
    }
  });

  std::array<double, clip_candidates.size()> sums{};
  for (const auto& trial : trials)
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += trial.errors[i];
  const std::size_t best = best_candidate(sums, values.size());
  rows.for_each(pool, [&](std::int64_t r, std::span<float>) {
    const RowTrial& trial = trials[static_cast<std::size_t>(r)];
    const std::size_t chosen = search == ClipSearch::per_matrix
                                   ? best
                                   : best_candidate(trial.errors, static_cast<std::size_t>(rows.columns));
    rows.scale(r) = trial.scales[chosen];
    kernels::quantize(rows.row(r), rows.columns, tensor::to_float(rows.scale(r)), -bound, bound, rows.q(r));
  });
  return result;
}

QuantizedTensor quantize_int8(std::string name, std::span<const float> values, tensor::Shape shape,
                              base::ThreadPool& pool) {
  QuantizedTensor result{std::move(name), shape, Kind::int8, {}, {}, {}};
  Rows rows(result, values);
  rows.allocate();
  rows.for_each(pool, [&](std::int64_t r, std::span<float> magnitudes) {
    rows.read_magnitudes(r, magnitudes);
    const float clip = quantile(magnitudes, int8_clip);
    const float scale = floored_scale(clip, static_cast<int>(int8_max));
    rows.scale(r) = rows.to_scale(r, scale);
    kernels::quantize_clipped(rows.row(r), rows.columns, clip, scale, rows.q(r));
  });
  return result;
}

QuantizedTensor quantize_int8_absmax(std::string name, std::span<const float> values, tensor::Shape shape,
                                     base::ThreadPool& pool) {
  QuantizedTensor result{std::move(name), shape, Kind::int8, {}, {}, {}};
  Rows rows(result, values);
  rows.allocate();
  rows.for_each(pool, [&](std::int64_t r, std::span<float> magnitudes) {
    rows.read_magnitudes(r, magnitudes);
    auto scale = rows.to_scale(r, kernels::largest(magnitudes.data(), rows.columns) / int8_max);
    if (tensor::to_float(scale) == 0) scale = tensor::f16{1};  // a row of (nearly) nothing
    rows.scale(r) = scale;
    kernels::quantize(rows.row(r), rows.columns, tensor::to_float(scale), -int8_max, int8_max, rows.q(r));
  });
  return result;
}

QuantizedTensor store_fp16(std::string name, std::span<const float> values, tensor::Shape shape,
                           base::ThreadPool& pool) {
  QuantizedTensor result{std::move(name), shape, Kind::fp16, {}, {}, {}};
  Rows rows(result, values);
  result.passthrough.resize(values.size());
  rows.for_each(pool, [&](std::int64_t r, std::span<float>) {
    const float* row = rows.row(r);
    for (std::int64_t i = 0; i < rows.columns; ++i) {
      const auto half = tensor::to_f16(row[i]);
      if (!std::isfinite(tensor::to_float(half)))
        base::fail_input("{}: row {} holds {}, which fp16 cannot; cannot be stored", result.name, r, row[i]);
      result.passthrough[static_cast<std::size_t>(r * rows.columns + i)] = half;
    }
  });
  return result;
}

float prune_threshold(std::span<const float> values, double share, bool bf16) {
  if (values.empty() || share <= 0.0) return 0.0f;
  std::vector<float> magnitudes(values.size());
  const float bad =
      kernels::magnitudes(values.data(), static_cast<std::int64_t>(values.size()), magnitudes.data());
  if (bad != 0.0f) base::fail_input("pruning: the tensor holds a NaN or an infinity");
  const float threshold = quantile(magnitudes, static_cast<float>(share));
  return bf16 ? tensor::round_to_bf16(threshold) : threshold;
}

std::int64_t prune_below(std::span<float> values, float threshold) {
  std::int64_t pruned = 0;
  for (float& value : values)
    if (std::fabs(value) < threshold) {
      value = 0.0f;
      ++pruned;
    }
  return pruned;
}

}  // namespace fairway::quant
