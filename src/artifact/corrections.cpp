#include "corrections.h"

#include <algorithm>
#include <limits>

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "numbers.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

constexpr std::uint8_t kRotated = 1, kGroups = 2, kLowRank = 4;

std::uint8_t flags_of(const Correction& c) {
  return static_cast<std::uint8_t>((c.rotated ? kRotated : 0) | (c.group_starts.empty() ? 0 : kGroups) |
                                   (c.rank > 0 ? kLowRank : 0));
}

std::int64_t columns_of(const StoredTensor& t) { return t.shape.empty() ? 1 : t.shape.back(); }
std::int64_t b_scales_of(const Correction& c, std::int64_t columns) {
  return (c.rank * columns + c.b_group - 1) / c.b_group;
}

/// The first broken rule about shapes, or "": all that is known before any values.
std::string bad_shape(const StoredTensor& t) {
  const Correction& c = t.correction;
  const std::int64_t columns = columns_of(t), rows = t.rows();
  const auto name = [&](std::string_view text) { return fmt::format("tensor '{}' {}", t.name, text); };
  if (!is_integer(t.kind)) return name("is corrected and has no integers");
  if (c.rotated && (columns & (columns - 1)) != 0) return name("is rotated and no power of two wide");
  std::int64_t free = 0;
  for (const auto start : c.group_starts) {
    if (c.group_columns < 1 || start < free || start > columns - c.group_columns)
      return name("has groups of columns that overlap or do not fit");
    free = start + c.group_columns;
  }
  if (c.rank < 0 || c.rank > std::min(rows, columns)) return name("has a correction of too high a rank");
  if (c.rank > 0 && (c.b_group < 1 || c.b_group > std::numeric_limits<std::uint32_t>::max()))
    return name("has a correction without groups");
  return "";
}

std::string bad_values(const StoredTensor& t) {
  const Correction& c = t.correction;
  const auto within = [](const std::vector<std::int8_t>& q, int low, int high) {
    return std::ranges::all_of(q, [&](std::int8_t v) { return v >= low && v <= high; });
  };
  if (!within(c.a, -2, 1) || !within(c.b, -8, 7))
    return fmt::format("tensor '{}' has a correction outside of [-2, 1] times [-8, 7]", t.name);
  const auto finite = [](tensor::f16 v) { return (v.bits & 0x7c00u) != 0x7c00u; };
  if (!std::ranges::all_of(c.group_scales, finite) || !finite(c.a_scale) ||
      !std::ranges::all_of(c.b_scales, finite))
    return fmt::format("tensor '{}' has a correction with a scale that is not finite", t.name);
  return "";
}

/// Bytes of codes, and number of halves.
struct Sizes {
  std::uint64_t codes = 0, halves = 0;
};
void add_sizes(const StoredTensor& t, Sizes& sizes) {
  const Correction& c = t.correction;
  if (!c.group_starts.empty()) sizes.halves += static_cast<std::uint64_t>(t.rows());
  if (c.rank == 0) return;
  sizes.codes += static_cast<std::uint64_t>(c.rank) * static_cast<std::uint64_t>(t.rows() + columns_of(t));
  sizes.halves += 1 + static_cast<std::uint64_t>(b_scales_of(c, columns_of(t)));
}

void decode_entry(base::ByteReader& in, StoredTensor& t, std::string_view what) {
  Correction& c = t.correction;
  const auto flags = in.read<std::uint8_t>();
  if (flags == 0 || flags > (kRotated | kGroups | kLowRank))
    base::fail_input("{}: tensor '{}' has flags {}", what, t.name, flags);
  c.rotated = flags & kRotated;
  if (flags & kGroups) {
    c.group_columns = in.read<std::uint32_t>();
    const auto count = in.read<std::uint32_t>();
    if (count == 0 || c.group_columns == 0 || count > columns_of(t) / c.group_columns)
      base::fail_input("{}: tensor '{}' has {} groups of {} columns", what, t.name, count, c.group_columns);
    for (std::uint32_t i = 0; i < count; ++i) c.group_starts.push_back(in.read<std::uint32_t>());
  }
  if (flags & kLowRank) {
    c.rank = in.read<std::uint32_t>();
    c.b_group = in.read<std::uint32_t>();
    if (c.rank == 0) base::fail_input("{}: tensor '{}' has a correction of rank 0", what, t.name);
  }
  if (const auto bad = bad_shape(t); !bad.empty()) base::fail_input("{}: {}", what, bad);
}

}  // namespace

void check_correction(const StoredTensor& t) {
  const Correction& c = t.correction;
  if (c == Correction{}) return;
  auto bad = bad_shape(t);
  base::check(bad.empty(), "{}", bad);
  const auto rank = static_cast<std::size_t>(c.rank), rows = static_cast<std::size_t>(t.rows()),
             columns = static_cast<std::size_t>(columns_of(t));
  base::check(c.group_scales.size() == (c.group_starts.empty() ? 0 : rows) && c.a.size() == rows * rank &&
                  c.b.size() == rank * columns &&
                  c.b_scales.size() == (rank ? static_cast<std::size_t>(b_scales_of(c, columns_of(t))) : 0),
              "tensor '{}' has a correction of rank {} with {}, {} and {} scales, {} and {} integers", t.name,
              rank, c.group_scales.size(), 1, c.b_scales.size(), c.a.size(), c.b.size());
  bad = bad_values(t);
  base::check(bad.empty(), "{}", bad);
}

std::vector<std::byte> encode_corrections(std::span<const StoredTensor> tensors) {
  base::ByteWriter entries, codes, halves;
  std::uint32_t count = 0;
  for (const std::size_t i : storage_order(tensors)) {
    const auto& t = tensors[i];
    const Correction& c = t.correction;
    check_correction(t);
    if (flags_of(c) == 0) continue;
    ++count;
    entries.write(static_cast<std::uint16_t>(t.name.size()));
    entries.write_bytes(base::as_bytes(t.name));
    entries.write(flags_of(c));
    if (!c.group_starts.empty()) {
      entries.write(static_cast<std::uint32_t>(c.group_columns));
      entries.write(static_cast<std::uint32_t>(c.group_starts.size()));
      for (const auto start : c.group_starts) entries.write(static_cast<std::uint32_t>(start));
      halves.write_bytes(std::as_bytes(std::span(c.group_scales)));
    }
    if (c.rank > 0) {
      entries.write(static_cast<std::uint32_t>(c.rank));
      entries.write(static_cast<std::uint32_t>(c.b_group));
      codes.write_bytes(std::as_bytes(std::span(c.a)));
      codes.write_bytes(std::as_bytes(std::span(c.b)));
      halves.write(c.a_scale);
      halves.write_bytes(std::as_bytes(std::span(c.b_scales)));
    }
  }
  if (count == 0) return {};
  base::ByteWriter out;
  out.write(count);
  out.write_bytes(entries.bytes());
  out.write_bytes(codes.bytes());
  write_numbers(out, halves.bytes(), sizeof(tensor::f16), true);
  return std::move(out).take();
}

void decode_corrections(std::span<const std::byte> bytes, std::span<StoredTensor> tensors,
                        std::string_view what, const ReadLimits& limits) {
  base::ByteReader in(bytes, std::string(what));
  const auto count = in.read<std::uint32_t>();
  if (count == 0 || count > tensors.size())
    base::fail_input("{}: {} corrections of {} tensors", what, count, tensors.size());
  std::vector<StoredTensor*> corrected;
  auto next = tensors.begin();
  Sizes sizes;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto name = in.take(in.read<std::uint16_t>());
    const std::string_view text(reinterpret_cast<const char*>(name.data()), name.size());
    check_tensor_name(text, what, limits);
    next = std::ranges::find(next, tensors.end(), text, &StoredTensor::name);
    if (next == tensors.end())
      base::fail_input("{}: '{}' is no tensor of the file, or out of order", what, text);
    decode_entry(in, *next, what);
    add_sizes(*next, sizes);
    corrected.push_back(&*next++);
  }
  if (sizes.codes + 2 * sizes.halves != in.left())
    base::fail_input("{}: {} bytes of values, {} declared", what, in.left(), sizes.codes + 2 * sizes.halves);
  NumberArray<std::int8_t> codes(in.take(sizes.codes), false);
  NumberArray<tensor::f16> halves(in.take(2 * sizes.halves), true);
  for (auto* t : corrected) {
    Correction& c = t->correction;
    const auto rows = static_cast<std::uint64_t>(t->rows());
    if (!c.group_starts.empty()) c.group_scales = halves.next(rows);
    if (c.rank > 0) {
      c.a = codes.next(rows * static_cast<std::uint64_t>(c.rank));
      c.b = codes.next(static_cast<std::uint64_t>(c.rank * columns_of(*t)));
      c.a_scale = halves.next(1).front();
      c.b_scales = halves.next(static_cast<std::uint64_t>(b_scales_of(c, columns_of(*t))));
    }
    if (const auto bad = bad_values(*t); !bad.empty()) base::fail_input("{}: {}", what, bad);
  }
}

}  // namespace fairway::artifact
