#include "fairway/artifact/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <tuple>

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "json.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

using tensor::DType;

constexpr std::array<std::pair<std::string_view, DType>, 8> kTypes{{{"F32", DType::f32},
                                                                    {"F64", DType::f64},
                                                                    {"F16", DType::f16},
                                                                    {"BF16", DType::bf16},
                                                                    {"I8", DType::i8},
                                                                    {"U8", DType::u8},
                                                                    {"I32", DType::i32},
                                                                    {"I64", DType::i64}}};
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::size_t kDataAlignment = 64;
constexpr int kHeaderDepth = 4;  // {name: {shape: [...]}} is 3 deep

std::string_view type_name(DType dtype) {
  for (const auto& [name, type] : kTypes)
    if (type == dtype) return name;
  return "?";
}

DType parse_type(const nlohmann::json& value, std::string_view where) {
  if (!value.is_string()) base::fail_input("{}: dtype is not a text", where);
  for (const auto& [name, type] : kTypes)
    if (name == value.get_ref<const std::string&>()) return type;
  base::fail_input("{}: dtype '{}' is not supported (F32, F64, F16, BF16, I8, U8, I32, I64 are)", where,
                   value.get_ref<const std::string&>());
}

std::uint64_t unsigned_number(const nlohmann::json& value, std::string_view where) {
  if (!value.is_number_unsigned())
    base::fail_input("{}: a shape or offset is not a non-negative integer", where);
  return value.get<std::uint64_t>();
}

struct Placed {
  SafeTensor tensor;
  std::uint64_t begin, end;
};

Placed parse_entry(const std::string& name, const nlohmann::json& entry, std::span<const std::byte> data,
                   std::string_view what) {
  const std::string where = fmt::format("{}: tensor '{}'", what, name);
  if (name.empty()) base::fail_input("{}: a tensor without a name", what);
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets") || !entry["shape"].is_array() || !entry["data_offsets"].is_array() ||
      entry["data_offsets"].size() != 2)
    base::fail_input("{}: its header entry needs exactly dtype, shape and two data_offsets", where);
  Placed p{{name, parse_type(entry["dtype"], where), {}, {}}, 0, 0};
  if (entry["shape"].size() > static_cast<std::size_t>(kMaxRank))
    base::fail_input("{}: rank {}, at most {}", where, entry["shape"].size(), kMaxRank);
  for (const auto& extent : entry["shape"]) {
    const auto value = unsigned_number(extent, where);
    if (value > INT64_MAX) base::fail_input("{}: an extent of {}", where, value);
    p.tensor.shape.push_back(static_cast<std::int64_t>(value));
  }
  p.begin = unsigned_number(entry["data_offsets"][0], where);
  p.end = unsigned_number(entry["data_offsets"][1], where);
  if (p.begin > p.end || p.end > data.size())
    base::fail_input("{}: bytes [{}, {}) of {} bytes of data", where, p.begin, p.end, data.size());
  const std::size_t size = tensor::size_of(p.tensor.dtype);
  const auto n = checked_elements(p.tensor.shape, 0, UINT64_MAX / size, where);
  if (n * size != p.end - p.begin)
    base::fail_input("{}: {} bytes for {} elements of {} bytes", where, p.end - p.begin, n, size);
  p.tensor.data = data.subspan(p.begin, p.end - p.begin);
  return p;
}

/// The format allows neither overlap nor holes nor bytes behind the last tensor.
void check_layout(std::vector<Placed>& placed, std::uint64_t data_bytes, std::string_view what) {
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t end = 0;
  for (const auto& p : placed) {
    if (p.begin != end)
      base::fail_input("{}: tensor '{}' starts at byte {} of the data, {} expected ({})", what, p.tensor.name,
                       p.begin, end, p.begin < end ? "overlap" : "hole");
    end = p.end;
  }
  if (end != data_bytes) base::fail_input("{}: {} bytes of data, the tensors take {}", what, data_bytes, end);
}

template <class T, class Convert>
void convert(std::span<const std::byte> data, std::vector<float>& out, Convert&& to) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;  // the file's bytes may be of any alignment
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    out[i] = to(value);
  }
}

constexpr auto kCast = [](auto v) { return static_cast<float>(v); };
constexpr auto kWiden = [](auto v) { return tensor::to_float(v); };

/// The JSON header, padded with spaces so that the data starts at a multiple of kDataAlignment.
std::string make_header(std::span<const SafeTensor* const> layout,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();  // keys sorted
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::uint64_t offset = 0;
  for (const auto* t : layout) {
    const std::uint64_t end = offset + t->data.size();
    header[t->name] = {{"dtype", type_name(t->dtype)}, {"shape", t->shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = dump_json(header);
  text.append((kDataAlignment - (text.size() + sizeof(std::uint64_t)) % kDataAlignment) % kDataAlignment,
              ' ');
  return text;
}

}  // namespace

std::int64_t SafeTensor::elements() const {
  // Not the product of the extents: [2^62, 2^62, 0] is a legal shape of nothing.
  return static_cast<std::int64_t>(data.size() / tensor::size_of(dtype));
}

SafeTensors SafeTensors::parse(std::span<const std::byte> bytes, std::string_view what,
                               const ReadLimits& limits) {
  base::ByteReader in(bytes, std::string(what));
  const auto length = in.read<std::uint64_t>();
  if (length > limits.max_json)
    base::fail_input("{}: not a safetensors file, or a header of {} bytes (at most {} are read)", what,
                     length, limits.max_json);
  const auto head = in.take(length);
  const auto data = bytes.subspan(in.position());
  const auto header = parse_json({reinterpret_cast<const char*>(head.data()), head.size()},
                                 fmt::format("{}: header", what), kHeaderDepth);
  if (!header.is_object()) base::fail_input("{}: the header is not a JSON object", what);
  if (header.size() > limits.max_tensors)
    base::fail_input("{}: {} tensors, at most {} are read", what, header.size(), limits.max_tensors);
  SafeTensors out;
  out.what_ = what;
  std::vector<Placed> placed;
  for (const auto& [name, entry] : header.items()) {
    if (name != kMetadataKey) {
      placed.push_back(parse_entry(name, entry, data, what));
      continue;
    }
    if (!entry.is_object()) base::fail_input("{}: __metadata__ is not an object", what);
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) base::fail_input("{}: metadata '{}' is not a text", what, key);
      out.metadata_[key] = value.get<std::string>();
    }
  }
  check_layout(placed, data.size(), what);
  for (auto& p : placed) out.tensors_.push_back(std::move(p.tensor));
  std::sort(out.tensors_.begin(), out.tensors_.end(),
            [](const SafeTensor& a, const SafeTensor& b) { return a.name < b.name; });
  return out;
}

SafeTensors SafeTensors::open(const std::filesystem::path& path, const ReadLimits& limits) {
  base::MappedFile file(path);
  SafeTensors out = parse(file.bytes(), path.string(), limits);
  out.file_ = std::move(file);  // the map stays where it is
  return out;
}

const SafeTensor* SafeTensors::find(std::string_view name) const {
  const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                      [](const SafeTensor& t, std::string_view n) { return t.name < n; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

const SafeTensor& SafeTensors::at(std::string_view name) const {
  if (const auto* t = find(name)) return *t;
  base::fail_input("{}: no tensor '{}'", what_, name);
}

std::vector<float> SafeTensors::floats(std::string_view name) const {
  const SafeTensor& t = at(name);
  std::vector<float> out(static_cast<std::size_t>(t.elements()));
  switch (t.dtype) {
    case DType::f32:
      convert<float>(t.data, out, kCast);
      break;
    case DType::f64:
      convert<double>(t.data, out, kCast);
      break;
    case DType::f16:
      convert<tensor::f16>(t.data, out, kWiden);
      break;
    case DType::bf16:
      convert<tensor::bf16>(t.data, out, kWiden);
      break;
    case DType::i8:
      convert<std::int8_t>(t.data, out, kCast);
      break;
    case DType::u8:
      convert<std::uint8_t>(t.data, out, kCast);
      break;
    case DType::i32:
      convert<std::int32_t>(t.data, out, kCast);
      break;
    case DType::i64:
      convert<std::int64_t>(t.data, out, kCast);
      break;
  }
  return out;
}

template <class T>
std::vector<T> SafeTensors::values(std::string_view name) const {
  const SafeTensor& t = at(name);
  if (t.dtype != tensor::dtype_of<T>::value)
    base::fail_input("{}: tensor '{}' is {}, {} expected", what_, name, type_name(t.dtype),
                     type_name(tensor::dtype_of<T>::value));
  std::vector<T> out(t.data.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), t.data.data(), t.data.size());
  return out;
}

template std::vector<float> SafeTensors::values(std::string_view) const;
template std::vector<double> SafeTensors::values(std::string_view) const;
template std::vector<tensor::f16> SafeTensors::values(std::string_view) const;
template std::vector<tensor::bf16> SafeTensors::values(std::string_view) const;
template std::vector<std::int8_t> SafeTensors::values(std::string_view) const;
template std::vector<std::uint8_t> SafeTensors::values(std::string_view) const;
template std::vector<std::int32_t> SafeTensors::values(std::string_view) const;
template std::vector<std::int64_t> SafeTensors::values(std::string_view) const;

void write_safetensors(const std::filesystem::path& path, std::span<const SafeTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const SafeTensor*> layout;
  std::set<std::string_view> names;
  for (const auto& t : tensors) {
    const auto n = checked_elements(t.shape, 0, INT64_MAX / 8, t.name);
    base::check(n * tensor::size_of(t.dtype) == t.data.size(), "tensor '{}' of {} elements has {} bytes",
                t.name, n, t.data.size());
    base::check(!t.name.empty() && t.name != kMetadataKey && names.insert(t.name).second,
                "tensor name '{}' is empty, reserved or used twice", t.name);
    layout.push_back(&t);
  }
  std::sort(layout.begin(), layout.end(), [](const SafeTensor* a, const SafeTensor* b) {
    const auto size = [](const SafeTensor* t) { return tensor::size_of(t->dtype); };
    return size(a) != size(b) ? size(a) > size(b) : a->name < b->name;
  });
  const std::string header = make_header(layout, metadata);
  const auto length = static_cast<std::uint64_t>(header.size());
  base::AtomicFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const auto* t : layout) file.write(t->data);
  file.commit();
}

}  // namespace fairway::artifact
