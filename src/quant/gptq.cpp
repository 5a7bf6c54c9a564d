#include "fairway/quant/gptq.h"

#include <algorithm>
#include <cmath>

#include "factor.h"
#include "fairway/base/error.h"
#include "fairway/quant/hadamard.h"
#include "tile_kernels.h"

namespace fairway::quant {
namespace {

using kernels::lanes;

/// fp16(max(clip sigma / q_max, 1e-10)) with the sample deviation; never zero.
tensor::f16 scale_of(double deviation, double clip, int q_max) {
  const auto scale = tensor::to_f16(static_cast<float>(std::max(clip * deviation / q_max, 1e-10)));
  return tensor::to_float(scale) > 0 ? scale : tensor::f16{1};
}

double deviation_of(std::span<const float> row) {
  double mean = 0, squares = 0;
  for (const float v : row) mean += v;
  mean /= static_cast<double>(row.size());
  for (const float v : row) squares += (v - mean) * (v - mean);
  return row.size() > 1 ? std::sqrt(squares / static_cast<double>(row.size() - 1)) : 0;
}

/// One problem: the tensor's values (rotated where that is asked for) and where results go.
struct Gptq {
  std::span<const float> values;
  std::int64_t rows, n;
  const GptqOptions& options;
  const Factor& factor;
  std::vector<std::uint8_t> fine;  ///< by place in the order: on the finer grid
  QuantizedTensor& result;

  std::span<const float> row(std::int64_t r) const {
    return values.subspan(static_cast<std::size_t>(r * n), static_cast<std::size_t>(n));
  }

  void set_scales(std::int64_t r) {
    const double deviation = deviation_of(row(r));
    const auto set = [&](tensor::f16& scale, int q_max) {
      scale = scale_of(deviation, options.clip, q_max);
      if (!std::isfinite(tensor::to_float(scale)))
        base::fail_input("{}: row {} is too wide for an fp16 scale", result.name, r);
    };
    set(result.scales[static_cast<std::size_t>(r)], options.q_max);
    if (!options.fine.starts.empty()) set(result.fine.scales[static_cast<std::size_t>(r)], 127);
  }

  /// Rows [first, first + lanes), as lanes; those behind the last are zeros.
  void quantize_rows(std::int64_t first) {
    const std::int64_t count = std::min(lanes, rows - first);
    const auto size = static_cast<std::size_t>(n * lanes);
    std::vector<float> w(size), d(size);
    std::vector<std::int8_t> q(size);
    float scale[lanes], fine_scale[lanes];
    std::fill_n(scale, lanes, 1.0f), std::fill_n(fine_scale, lanes, 1.0f);
    for (std::int64_t i = 0; i < count; ++i) {
      set_scales(first + i);
      const auto r = static_cast<std::size_t>(first + i);
      scale[i] = tensor::to_float(result.scales[r]);
      if (!options.fine.starts.empty()) fine_scale[i] = tensor::to_float(result.fine.scales[r]);
      const float* from = row(first + i).data();
      for (std::int64_t t = 0; t < n; ++t) {
        const auto j = factor.order[static_cast<std::size_t>(t)];
        if (!factor.dead[static_cast<std::size_t>(j)]) w[static_cast<std::size_t>(t * lanes + i)] = from[j];
      }
    }
    kernels::round_columns(w.data(), n, factor.feedback.data(), fine.data(), scale,
                           static_cast<float>(options.q_max), fine_scale, d.data(), q.data());
    for (std::int64_t i = 0; i < count; ++i) {
      std::int8_t* to = result.q.data() + (first + i) * n;
      for (std::int64_t t = 0; t < n; ++t)
        to[factor.order[static_cast<std::size_t>(t)]] = q[static_cast<std::size_t>(t * lanes + i)];
    }
  }
};

void check_input(const std::string& name, std::span<const float> values, const tensor::Shape& shape,
                 std::span<const float> hessian, const GptqOptions& options) {
  base::check(shape.elements() == std::ssize(values) && !values.empty(), "quant: {} is {} over {} values",
              name, shape.str(), values.size());
  const auto n = shape.columns();
  if (std::ssize(hessian) != n * n)
    base::fail_input("{}: a Hessian of {} values for rows of {}", name, hessian.size(), n);
  if (options.rotated) check_rotatable(name, n);
  const auto bad = std::ranges::find_if_not(values, [](float v) { return std::isfinite(v); });
  if (bad != values.end())
    base::fail_input("{}: row {} holds {}; cannot be quantised", name, (bad - values.begin()) / n, *bad);
}

/// By place in the order.
std::vector<std::uint8_t> places(const ColumnGroups& groups, const Factor& factor) {
  std::vector<std::uint8_t> fine(factor.order.size());
  for (std::size_t t = 0; t < fine.size(); ++t)
    for (const auto start : groups.starts)
      fine[t] |= factor.order[t] >= start && factor.order[t] < start + groups.size;
  return fine;
}

}  // namespace

QuantizedTensor quantize_gptq(std::string name, std::span<const float> values, tensor::Shape shape,
                              std::span<const float> hessian, const GptqOptions& options,
                              base::ThreadPool& pool, Factors* factors) {
  check_input(name, values, shape, hessian, options);
  const auto n = shape.columns(), rows = shape.rows();
  Factors own;
  const Factor& factor =
      (factors ? *factors : own).of(name, hessian, n, {options.damping, options.rotated}, pool);
  std::vector<float> turned;
  if (options.rotated) {
    turned.assign(values.begin(), values.end());
    rotate_rows(turned, n, pool);
    values = turned;
  }
  const Kind kind = options.q_max == 63 ? Kind::int7 : options.q_max == 31 ? Kind::int6 : Kind::int5;
  QuantizedTensor result{std::move(name), shape, kind, {}, {}, {}, {}, {}, options.rotated};
  result.q.resize(values.size());
  result.scales.resize(static_cast<std::size_t>(rows));
  if (!options.fine.starts.empty()) {
    result.fine = options.fine;
    result.fine.scales.resize(static_cast<std::size_t>(rows));
  }
  Gptq gptq{values, rows, n, options, factor, places(options.fine, factor), result};
  pool.run((rows + lanes - 1) / lanes, [&](std::int64_t i) { gptq.quantize_rows(i * lanes); });
  return result;
}

}  // namespace fairway::quant
