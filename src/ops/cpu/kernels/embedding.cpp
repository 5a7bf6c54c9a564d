#include "fairway/ops/embedding.h"

#include "cpu/fault.h"
#include "cpu/kernel.h"
#include "cpu/partial.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// A vector of a stored row, widened to T.
template <class T, class Part>
[[gnu::always_inline]] inline Vec<T> load_row(const T* row, std::int64_t i, Part part) {
  return load(row + i, part);
}
template <class T, class Part>
[[gnu::always_inline]] inline Vec<T> load_row(const tensor::bf16* row, std::int64_t i, Part part) {
  alignas(64) std::int32_t bits[lanes<T>];
  if constexpr (std::is_same_v<Part, Full>) {
    for (int k = 0; k < lanes<T>; ++k) bits[k] = static_cast<std::int32_t>(row[i + k].bits) << 16;
  } else {
    for (int k = 0; k < lanes<T>; ++k)
      bits[k] = k < part.n ? static_cast<std::int32_t>(row[i + k].bits) << 16 : 0;
  }
  return bits_as<T>(load<std::int32_t>(bits));
}

/// index[t], checked.
[[gnu::always_inline]] inline std::int64_t row_index(const KernelArgs& a, const std::int32_t* index,
                                                     std::int64_t t, std::int64_t rows) {
  const std::int64_t v = index[t];
  if (v < 0 || v >= rows) index_fault(a.op.name(), v, rows);
  return v;
}

template <class T, class Stored>
void gather_rows(const KernelArgs& a) {
  const auto& table_shape = a.in[0].meta.shape;
  const auto rows = table_shape[0], columns = table_shape[1];
  const auto* table = in<Stored>(a, 0);
  const auto* index = in<std::int32_t>(a, 1);
  const auto y = out<T>(a, 0);
  parallel_rows(a, a.in[1].elements(), columns, [&](std::int64_t t) {
    const auto* row = table + row_index(a, index, t, rows) * columns;
    const auto y_row = y.at(t * columns);
    for_vectors<T>(columns,
                   [&](std::int64_t i, auto part) { y_row.put(i, part, load_row<T>(row, i, part)); });
  });
}

/// Positions grouped by table row, ascending within a row: those of row v are order[end[v - 1]] to
/// order[end[v]].
struct Groups {
  std::int32_t *end, *order;
};

Groups group_positions(const KernelArgs& a, std::int64_t rows) {
  const auto* index = in<std::int32_t>(a, 1);
  const auto positions = a.in[1].elements();
  auto* end = static_cast<std::int32_t*>(a.workspace.data);
  auto* order = end + rows;
  fill_zero(end, rows);
  for (std::int64_t t = 0; t < positions; ++t) ++end[row_index(a, index, t, rows)];
  std::int32_t before = 0;
  for (std::int64_t v = 0; v < rows; ++v) {
    const auto count = end[v];
    end[v] = before;
    before += count;
  }
  for (std::int64_t t = 0; t < positions; ++t) order[end[index[t]]++] = static_cast<std::int32_t>(t);
  return {end, order};
}

}  // namespace

void gather(const KernelArgs& a) {
  if (a.out[0].meta.dtype == DType::bf16) dtype_fault(DType::bf16);
  switch (a.in[0].meta.dtype) {
    case DType::f64:
      return gather_rows<double, double>(a);
    case DType::bf16:
      return gather_rows<float, tensor::bf16>(a);
    default:
      return gather_rows<float, float>(a);
  }
}

void gather_backward(const KernelArgs& a) {
  dispatch(a.in[2], [&]<class T>(T) {
    const auto& table_shape = a.in[0].meta.shape;
    const auto rows = table_shape[0], columns = table_shape[1];
    const T* dy = in<T>(a, 2);
    const auto dtable = out<T>(a, 0);
    if (!dtable) return;
    const auto groups = group_positions(a, rows);
    parallel_rows(a, rows, columns, [&](std::int64_t v) {
      T* sums = dtable.p + v * columns;
      if (!dtable.add) fill_zero(sums, columns);
      for (auto k = v == 0 ? 0 : groups.end[v - 1]; k < groups.end[v]; ++k) {
        const T* g = dy + static_cast<std::int64_t>(groups.order[k]) * columns;
        for_vectors<T>(columns,
                       [&](std::int64_t i, auto part) { accumulate(sums + i, part, load(g + i, part)); });
      }
    });
  });
}

void bigram_index(const KernelArgs& a) {
  const auto& shape = a.in[0].meta.shape;
  const auto length = shape[1];
  const std::int32_t modulus = static_cast<const BigramIndex&>(a.op).rows - 1;
  const auto *tokens = in<std::int32_t>(a, 0), *previous = in<std::int32_t>(a, 1);
  const auto index = out<std::int32_t>(a, 0);
  // Products wrap around in 32 bits, as the signed arithmetic of the original does.
  const auto product = [](std::uint32_t factor, std::int32_t token) {
    return static_cast<std::int32_t>(factor * static_cast<std::uint32_t>(token));
  };
  parallel_ranges(a, shape.elements(), grain, [&](std::int64_t first, std::int64_t last) {
    for (auto t = first; t < last; ++t) {
      const std::int32_t before = t % length ? tokens[t - 1] : previous ? previous[t / length] : -1;
      if (before == -1) {
        index.put(t, modulus);
        continue;
      }
      const std::int32_t hash = (product(36313, tokens[t]) ^ product(27191, before)) % modulus;
      index.put(t, hash < 0 ? hash + modulus : hash);
    }
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
