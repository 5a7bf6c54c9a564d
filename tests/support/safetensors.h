#pragma once
// A small reader of safetensors files for tests (the product's own reader lives in a layer above most tests).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace fairway::testing {

/// One array of the file. `dtype` as the format spells it: "F32", "F16", "BF16", "I8", "I32", "I64", ...
struct GoldenArray {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;

  std::int64_t elements() const {
    return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  }
  /// A copy as T; throws when the size of T is not the size of the stored type.
  template <class T>
  std::vector<T> as() const {
    std::vector<T> values(static_cast<std::size_t>(elements()));
    if (values.size() * sizeof(T) != bytes.size()) throw std::runtime_error("golden array is " + dtype);
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
};

struct GoldenFile {
  std::map<std::string, GoldenArray> arrays;
  std::map<std::string, std::string> metadata;

  const GoldenArray& at(const std::string& name) const {
    const auto found = arrays.find(name);
    if (found == arrays.end()) throw std::runtime_error("no golden array " + name);
    return found->second;
  }
  bool has(const std::string& name) const { return arrays.count(name) != 0; }
  std::vector<float> floats(const std::string& name) const { return at(name).as<float>(); }
  /// A metadata entry parsed as JSON (the golden files keep their configuration there).
  nlohmann::json json(const std::string& key) const { return nlohmann::json::parse(metadata.at(key)); }
};

/// Reads a whole file; throws std::runtime_error when it is missing or its header does not fit.
inline GoldenFile read_safetensors(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  std::vector<char> raw((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::uint64_t header_bytes = 0;
  if (raw.size() < sizeof header_bytes) throw std::runtime_error(path + ": truncated");
  std::memcpy(&header_bytes, raw.data(), sizeof header_bytes);
  if (header_bytes > raw.size() - sizeof header_bytes) throw std::runtime_error(path + ": truncated header");
  const auto data = std::span<const char>(raw).subspan(sizeof header_bytes + header_bytes);

  GoldenFile file;
  const auto header =
      nlohmann::json::parse(raw.begin() + 8, raw.begin() + 8 + static_cast<std::ptrdiff_t>(header_bytes));
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      file.metadata = entry.get<std::map<std::string, std::string>>();
      continue;
    }
    const auto begin = entry.at("data_offsets").at(0).get<std::uint64_t>();
    const auto end = entry.at("data_offsets").at(1).get<std::uint64_t>();
    if (begin > end || end > data.size()) throw std::runtime_error(path + ": bad offsets of " + name);
    GoldenArray array{
        entry.at("dtype").get<std::string>(), entry.at("shape").get<std::vector<std::int64_t>>(), {}};
    array.bytes.resize(end - begin);
    if (end > begin) std::memcpy(array.bytes.data(), data.data() + begin, end - begin);
    file.arrays.emplace(name, std::move(array));
  }
  return file;
}

/// A file of tests/golden by its name without the extension.
#ifdef FAIRWAY_GOLDEN_DIR
inline GoldenFile read_golden(const std::string& name) {
  return read_safetensors(std::string(FAIRWAY_GOLDEN_DIR) + "/" + name + ".safetensors");
}
#endif

}  // namespace fairway::testing
