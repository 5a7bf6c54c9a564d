#include "weights.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>
#include <tuple>
#include <unordered_set>

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "numbers.h"

namespace fairway::artifact {
namespace {

constexpr std::array<std::string_view, 5> kKinds{"int6", "int8", "int5", "f16", "f32"};

struct Range {
  int low, high;
};
Range range_of(TensorKind kind) {
  if (kind == TensorKind::int6) return {-32, 31};
  return kind == TensorKind::int8 ? Range{-128, 127} : Range{-16, 15};
}

bool finite(tensor::f16 v) { return (v.bits & 0x7c00u) != 0x7c00u; }

/// The first broken rule about values, or "".
std::string bad_values(const StoredTensor& t) {
  if (!is_integer(t.kind)) return "";
  const Range range = range_of(t.kind);
  for (std::int8_t v : t.q)
    if (v < range.low || v > range.high)
      return fmt::format("tensor '{}' holds {}, outside of {}'s [{}, {}]", t.name, static_cast<int>(v),
                         kind_name(t.kind), range.low, range.high);
  if (!std::all_of(t.scales.begin(), t.scales.end(), finite))
    return fmt::format("tensor '{}' has a scale that is not finite", t.name);
  return "";
}

/// Bytes of each class of arrays, in the section's order.
struct ClassBytes {
  std::uint64_t integers = 0, scales = 0, halves = 0, floats = 0;
  std::uint64_t total() const { return integers + scales + halves + floats; }
};
ClassBytes class_bytes(std::span<const StoredTensor> tensors) {
  ClassBytes sum;
  for (const auto& t : tensors) {
    const auto n = static_cast<std::uint64_t>(t.elements());
    if (is_integer(t.kind)) {
      sum.integers += n;
      sum.scales += 2 * static_cast<std::uint64_t>(t.rows());
    } else if (t.kind == TensorKind::f16) {
      sum.halves += 2 * n;
    } else {
      sum.floats += 4 * n;
    }
  }
  return sum;  // at most 2^16 tensors of 2^35 bytes: no overflow
}

std::vector<std::int64_t> layer_numbers(std::string_view name) {
  std::vector<std::int64_t> numbers;
  for (std::size_t i = 0; i < name.size();) {
    if (!std::isdigit(static_cast<unsigned char>(name[i]))) {
      ++i;
      continue;
    }
    std::int64_t value = 0;
    for (; i < name.size() && std::isdigit(static_cast<unsigned char>(name[i])); ++i)
      value = std::min<std::int64_t>(value * 10 + (name[i] - '0'), 1'000'000'000);
    numbers.push_back(value);
  }
  return numbers;
}

StoredTensor decode_entry(base::ByteReader& in, std::string_view what, const ReadLimits& limits) {
  StoredTensor t;
  const auto kind = in.read<std::uint8_t>();
  const auto rank = in.read<std::uint8_t>();
  const auto length = in.read<std::uint16_t>();
  if (kind >= kKinds.size()) base::fail_input("{}: unknown tensor kind {}", what, kind);
  if (rank > kMaxRank) base::fail_input("{}: a tensor of rank {}, at most {}", what, rank, kMaxRank);
  t.kind = static_cast<TensorKind>(kind);
  const auto name = in.take(length);
  t.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
  check_tensor_name(t.name, what, limits);
  for (int axis = 0; axis < rank; ++axis) t.shape.push_back(in.read<std::int64_t>());
  checked_elements(t.shape, 1, limits.max_decoded, fmt::format("{}: tensor '{}'", what, t.name));
  return t;
}

}  // namespace

std::string_view kind_name(TensorKind kind) {
  const auto index = static_cast<std::size_t>(kind);
  return index < kKinds.size() ? kKinds[index] : "unknown";
}

std::int64_t StoredTensor::elements() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::int64_t StoredTensor::rows() const { return shape.empty() ? 1 : elements() / shape.back(); }

std::vector<std::size_t> storage_order(std::span<const StoredTensor> tensors) {
  using Key = std::tuple<TensorKind, std::string, std::vector<std::int64_t>, std::string_view>;
  std::vector<std::pair<Key, std::size_t>> keyed;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& t = tensors[i];
    keyed.push_back({{t.kind, strip_layer_number(t.name), layer_numbers(t.name), t.name}, i});
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<std::size_t> order;
  for (const auto& k : keyed) order.push_back(k.second);
  return order;
}

void check_tensor_name(std::string_view name, std::string_view what, const ReadLimits& limits) {
  const bool printable = std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (name.empty() || name.size() > limits.max_name || !printable)
    base::fail_input("{}: a name is empty, longer than {} bytes or not printable ASCII", what,
                     limits.max_name);
}

std::uint64_t checked_elements(std::span<const std::int64_t> shape, std::int64_t least,
                               std::uint64_t max_elements, std::string_view what) {
  if (shape.size() > static_cast<std::size_t>(kMaxRank))
    base::fail_input("{}: rank {}, at most {}", what, shape.size(), kMaxRank);
  for (std::int64_t extent : shape)
    if (extent < least) base::fail_input("{}: an extent of {}", what, extent);
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::uint64_t elements = 1;
  for (std::int64_t extent : shape) {
    if (static_cast<std::uint64_t>(extent) > max_elements / elements)
      base::fail_input("{}: more than {} elements", what, max_elements);
    elements *= static_cast<std::uint64_t>(extent);
  }
  return elements;
}

void check_tensor(const StoredTensor& t) {
  const ReadLimits limits;
  check_tensor_name(t.name, "tensor to store", limits);
  checked_elements(t.shape, 1, limits.max_decoded, t.name);
  const auto n = static_cast<std::size_t>(t.elements());
  const auto rows = static_cast<std::size_t>(t.rows());
  const bool integer = is_integer(t.kind);
  base::check(t.q.size() == (integer ? n : 0) && t.scales.size() == (integer ? rows : 0) &&
                  t.half.size() == (t.kind == TensorKind::f16 ? n : 0) &&
                  t.full.size() == (t.kind == TensorKind::f32 ? n : 0),
              "tensor '{}' of kind {} and {} elements holds {} integers, {} scales, {} halves, {} floats",
              t.name, kind_name(t.kind), n, t.q.size(), t.scales.size(), t.half.size(), t.full.size());
  const auto bad = bad_values(t);
  base::check(bad.empty(), "{}", bad);
}

std::vector<std::byte> encode_weights(std::span<const StoredTensor> tensors, bool planes) {
  base::check(tensors.size() <= ReadLimits{}.max_tensors, "{} tensors", tensors.size());
  base::ByteWriter out;
  out.write(static_cast<std::uint32_t>(tensors.size()));
  std::unordered_set<std::string_view> names;
  const auto order = storage_order(tensors);
  for (std::size_t i : order) {
    const auto& t = tensors[i];
    check_tensor(t);
    base::check(names.insert(t.name).second, "two tensors '{}'", t.name);
    out.write(static_cast<std::uint8_t>(t.kind));
    out.write(static_cast<std::uint8_t>(t.shape.size()));
    out.write(static_cast<std::uint16_t>(t.name.size()));
    out.write_bytes(base::as_bytes(t.name));
    for (std::int64_t extent : t.shape) out.write(extent);
  }
  // Kinds ascend in storage order, so each of these writes one contiguous class.
  const auto write_class = [&](auto member, std::size_t width) {
    base::ByteWriter joined;
    for (std::size_t i : order) joined.write_bytes(std::as_bytes(std::span(tensors[i].*member)));
    write_numbers(out, joined.bytes(), width, planes);
  };
  write_class(&StoredTensor::q, 1);
  write_class(&StoredTensor::scales, 2);
  write_class(&StoredTensor::half, 2);
  write_class(&StoredTensor::full, 4);
  return std::move(out).take();
}

std::vector<StoredTensor> decode_directory(base::ByteReader& in, std::string_view what,
                                           const ReadLimits& limits) {
  const auto count = in.read<std::uint32_t>();
  if (count > limits.max_tensors)
    base::fail_input("{}: {} tensors, at most {} are read", what, count, limits.max_tensors);
  std::vector<StoredTensor> tensors;
  std::unordered_set<std::string> names;
  for (std::uint32_t i = 0; i < count; ++i) {
    tensors.push_back(decode_entry(in, what, limits));
    const auto& t = tensors.back();
    if (!names.insert(t.name).second) base::fail_input("{}: two tensors '{}'", what, t.name);
    if (i > 0 && t.kind < tensors[i - 1].kind)
      base::fail_input("{}: tensor '{}' is out of order", what, t.name);
  }
  return tensors;
}

std::size_t integers_at(std::span<const StoredTensor> tensors, std::span<const std::byte> bytes) {
  return bytes.size() - static_cast<std::size_t>(class_bytes(tensors).total());
}

std::vector<StoredTensor> decode_weights(std::span<const std::byte> bytes, bool planes, std::string_view what,
                                         const ReadLimits& limits) {
  base::ByteReader in(bytes, std::string(what));
  auto tensors = decode_directory(in, what, limits);
  const auto size = class_bytes(tensors);
  // Checked against what is there before memory is taken.
  if (size.total() != in.left())
    base::fail_input("{}: {} bytes of values, {} declared", what, in.left(), size.total());
  NumberArray<std::int8_t> integers(in.take(size.integers), planes);
  NumberArray<tensor::f16> scales(in.take(size.scales), planes), halves(in.take(size.halves), planes);
  NumberArray<float> floats(in.take(size.floats), planes);
  for (auto& t : tensors) {
    const auto n = static_cast<std::uint64_t>(t.elements());
    if (is_integer(t.kind)) {
      t.q = integers.next(n);
      t.scales = scales.next(static_cast<std::uint64_t>(t.rows()));
    } else if (t.kind == TensorKind::f16) {
      t.half = halves.next(n);
    } else {
      t.full = floats.next(n);
    }
    if (const auto bad = bad_values(t); !bad.empty()) base::fail_input("{}: {}", what, bad);
  }
  return tensors;
}

std::vector<WeightsPart> weights_parts(std::span<const StoredTensor> tensors,
                                       std::span<const std::byte> bytes, bool planes,
                                       const std::function<std::string(std::string_view)>& group) {
  const auto size = class_bytes(tensors);
  const std::uint64_t directory = bytes.size() - size.total();
  std::vector<WeightsPart> parts{{"directory", "", 0, {bytes.first(directory)}}};
  std::map<std::pair<std::string, std::string>, std::size_t> index;
  const auto integers = bytes.subspan(directory, size.integers);
  const auto halves = bytes.subspan(directory + size.integers + size.scales, size.halves);
  const auto floats = bytes.last(size.floats);
  std::uint64_t integer = 0, half = 0, full = 0;  // numbers of each class before the tensor
  for (const auto& t : tensors) {
    const std::string kind(kind_name(t.kind));
    const auto [at, fresh] = index.try_emplace({group(t.name), kind}, parts.size());
    if (fresh) parts.push_back({at->first.first, kind, 0, {}});
    auto& part = parts[at->second];
    ++part.tensors;
    const auto n = static_cast<std::uint64_t>(t.elements());
    const auto add = [&](std::span<const std::byte> array, std::uint64_t& before, std::uint64_t width) {
      const auto count = array.size() / width;
      if (!planes) part.ranges.push_back(array.subspan(before * width, n * width));
      for (std::uint64_t k = 0; planes && k < width; ++k)
        part.ranges.push_back(array.subspan(k * count + before, n));
      before += n;
    };
    if (is_integer(t.kind)) {
      add(integers, integer, 1);
    } else if (t.kind == TensorKind::f16) {
      add(halves, half, 2);
    } else {
      add(floats, full, 4);
    }
  }
  if (size.scales > 0)
    parts.push_back({"scales", "f16", 0, {bytes.subspan(directory + size.integers, size.scales)}});
  return parts;
}

}  // namespace fairway::artifact
