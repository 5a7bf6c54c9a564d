// From integers back to weights.
#include <algorithm>

#include "fairway/base/error.h"
#include "fairway/quant/hadamard.h"
#include "fairway/quant/quantize.h"
#include "grid_row.h"
#include "row_kernels.h"

namespace fairway::quant {
namespace {

constexpr std::int64_t chunk_elements = 65'536;  // what a thread takes at a time

/// The parts belong together: what no reader of files lets through, but a caller might.
void check_parts(const QuantizedTensor& t, std::size_t elements, std::size_t rows, std::size_t columns) {
  const bool half = t.kind == Kind::fp16;
  base::check((half ? t.passthrough.size() : t.q.size()) == elements && (half || t.scales.size() == rows),
              "quant: {} is {} with {} integers, {} scales, {} halves into {} values", t.name, t.shape.str(),
              t.q.size(), t.scales.size(), t.passthrough.size(), elements);
  const auto& l = t.low_rank;
  const auto rank = static_cast<std::size_t>(l.rank);
  base::check(!half || (rank == 0 && t.fine.starts.empty()), "quant: {} is fp16 and corrected", t.name);
  base::check(t.fine.starts.empty() || t.fine.scales.size() == rows, "quant: {}: {} scales of fine columns",
              t.name, t.fine.scales.size());
  base::check(l.a.size() == rows * rank && l.b.size() == rank * columns &&
                  (rank == 0 || (l.group > 0 && static_cast<std::int64_t>(l.b_scales.size()) ==
                                                    (l.rank * t.shape.columns() + l.group - 1) / l.group)),
              "quant: {}: a product of rank {} with {} and {} integers, {} scales", t.name, rank, l.a.size(),
              l.b.size(), l.b_scales.size());
}

/// A and B of LQER in fp32.
struct Added {
  explicit Added(const LowRank& l) : rank(l.rank), a(l.a.size()), b(l.b.size()) {
    for (std::size_t i = 0; i < a.size(); ++i)
      a[i] = static_cast<float>(l.a[i]) * tensor::to_float(l.a_scale);
    for (std::size_t i = 0; i < b.size(); ++i)
      b[i] = static_cast<float>(l.b[i]) * tensor::to_float(l.b_scales[i / static_cast<std::size_t>(l.group)]);
  }
  void to_row(std::int64_t r, std::int64_t columns, float* row) const {
    for (std::int64_t j = 0; rank > 0 && j < columns; ++j) {
      float sum = 0;
      for (std::int64_t k = 0; k < rank; ++k)
        sum += a[static_cast<std::size_t>(r * rank + k)] * b[static_cast<std::size_t>(k * columns + j)];
      row[j] += sum;
    }
  }
  std::int64_t rank;
  std::vector<float> a, b;
};

}  // namespace

void grid_row(const QuantizedTensor& stored, std::int64_t r, float* out) {
  const std::int64_t columns = stored.shape.columns();
  const std::int8_t* q = stored.q.data() + r * columns;
  kernels::dequantize(q, columns, tensor::to_float(stored.scales[static_cast<std::size_t>(r)]), out);
  for (const auto start : stored.fine.starts)
    kernels::dequantize(q + start, stored.fine.size,
                        tensor::to_float(stored.fine.scales[static_cast<std::size_t>(r)]), out + start);
}

void dequantize(const QuantizedTensor& stored, std::span<float> out, base::ThreadPool& pool,
                bool round_to_bf16) {
  const auto elements = static_cast<std::size_t>(stored.shape.elements());
  const std::int64_t columns = std::max<std::int64_t>(stored.shape.columns(), 1);
  const std::int64_t rows = static_cast<std::int64_t>(elements) / columns;
  base::check(out.size() == elements, "quant: {} is {} into {} values", stored.name, stored.shape.str(),
              out.size());
  check_parts(stored, elements, static_cast<std::size_t>(rows), static_cast<std::size_t>(columns));
  const Added added(stored.low_rank);
  const std::int64_t step = std::max<std::int64_t>(1, chunk_elements / columns);
  pool.run((rows + step - 1) / step, [&](std::int64_t chunk) {
    for (std::int64_t r = chunk * step; r < std::min(rows, (chunk + 1) * step); ++r) {
      float* row = out.data() + r * columns;
      if (stored.kind == Kind::fp16) {
        for (std::int64_t i = 0; i < columns; ++i)
          row[i] = tensor::to_float(stored.passthrough[static_cast<std::size_t>(r * columns + i)]);
      } else {
        grid_row(stored, r, row);
        added.to_row(r, columns, row);
      }
      if (stored.rotated) rotate_row({row, static_cast<std::size_t>(columns)});
      if (round_to_bf16)
        for (std::int64_t i = 0; i < columns; ++i) row[i] = tensor::round_to_bf16(row[i]);
    }
  });
}

}  // namespace fairway::quant
