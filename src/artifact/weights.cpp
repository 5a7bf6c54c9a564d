#include "weights.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <numeric>
#include <tuple>
#include <unordered_set>

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"

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

/// Bytes of the payload in the section: values and scales.
struct PayloadBytes {
  std::uint64_t values, scales;
};
PayloadBytes payload_bytes(const StoredTensor& t) {
  const auto n = static_cast<std::uint64_t>(t.elements());
  if (is_integer(t.kind)) return {n, 2 * static_cast<std::uint64_t>(t.rows())};
  return {n * (t.kind == TensorKind::f16 ? 2 : 4), 0};
}

template <class T>
std::vector<T> take_vector(base::ByteReader& in, std::uint64_t count) {
  const auto bytes = in.take(count * sizeof(T));  // checked against what is there before memory is taken
  std::vector<T> values(static_cast<std::size_t>(count));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
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

std::vector<std::byte> encode_weights(std::span<const StoredTensor> tensors) {
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
  // Kinds ascend in storage order, so each of these passes writes one contiguous class.
  for (std::size_t i : order) out.write_bytes(std::as_bytes(std::span(tensors[i].q)));
  for (std::size_t i : order) out.write_bytes(std::as_bytes(std::span(tensors[i].scales)));
  for (std::size_t i : order) out.write_bytes(std::as_bytes(std::span(tensors[i].half)));
  for (std::size_t i : order) out.write_bytes(std::as_bytes(std::span(tensors[i].full)));
  return std::move(out).take();
}

std::vector<StoredTensor> decode_weights(std::span<const std::byte> bytes, std::string_view what,
                                         const ReadLimits& limits) {
  base::ByteReader in(bytes, std::string(what));
  const auto count = in.read<std::uint32_t>();
  if (count > limits.max_tensors)
    base::fail_input("{}: {} tensors, at most {} are read", what, count, limits.max_tensors);
  std::vector<StoredTensor> tensors;
  std::unordered_set<std::string> names;
  std::uint64_t payload = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    tensors.push_back(decode_entry(in, what, limits));
    const auto& t = tensors.back();
    if (!names.insert(t.name).second) base::fail_input("{}: two tensors '{}'", what, t.name);
    if (i > 0 && t.kind < tensors[i - 1].kind)
      base::fail_input("{}: tensor '{}' is out of order", what, t.name);
    const auto size = payload_bytes(t);
    payload += size.values + size.scales;  // at most 2^16 tensors of 2^35 bytes: no overflow
  }
  if (payload != in.left()) base::fail_input("{}: {} bytes of values, {} declared", what, in.left(), payload);
  for (auto& t : tensors)
    if (is_integer(t.kind)) t.q = take_vector<std::int8_t>(in, static_cast<std::uint64_t>(t.elements()));
  for (auto& t : tensors)
    if (is_integer(t.kind)) t.scales = take_vector<tensor::f16>(in, static_cast<std::uint64_t>(t.rows()));
  for (auto& t : tensors) {
    if (t.kind == TensorKind::f16)
      t.half = take_vector<tensor::f16>(in, static_cast<std::uint64_t>(t.elements()));
    if (t.kind == TensorKind::f32) t.full = take_vector<float>(in, static_cast<std::uint64_t>(t.elements()));
    if (const auto bad = bad_values(t); !bad.empty()) base::fail_input("{}: {}", what, bad);
  }
  return tensors;
}

std::vector<WeightsPart> weights_parts(std::span<const StoredTensor> tensors,
                                       std::span<const std::byte> bytes,
                                       const std::function<std::string(std::string_view)>& group) {
  std::uint64_t values = 0, scales = 0;
  for (const auto& t : tensors) {
    values += is_integer(t.kind) ? payload_bytes(t).values : 0;
    scales += payload_bytes(t).scales;
  }
  std::uint64_t rest = 0;
  for (const auto& t : tensors) rest += is_integer(t.kind) ? 0 : payload_bytes(t).values;
  const std::uint64_t directory = bytes.size() - values - scales - rest;
  std::vector<WeightsPart> parts{{"directory", "", 0, {bytes.first(directory)}}};
  std::map<std::pair<std::string, std::string>, std::size_t> index;
  std::uint64_t position = directory;
  for (const auto& t : tensors) {
    if (!is_integer(t.kind) && position == directory + values) position += scales;
    const std::string kind(kind_name(t.kind));
    const auto [at, fresh] = index.try_emplace({group(t.name), kind}, parts.size());
    if (fresh) parts.push_back({at->first.first, kind, 0, {}});
    auto& part = parts[at->second];
    ++part.tensors;
    part.ranges.push_back(bytes.subspan(position, payload_bytes(t).values));
    position += payload_bytes(t).values;
  }
  if (scales > 0) parts.push_back({"scales", "f16", 0, {bytes.subspan(directory + values, scales)}});
  return parts;
}

}  // namespace fairway::artifact
