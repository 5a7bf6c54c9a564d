#pragma once
// safetensors, reading and writing. Format: https://huggingface.co/docs/safetensors ("Format" section): 8
// bytes of header length, a JSON header, then the tensors' bytes, contiguous and without holes.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/artifact/limits.h"
#include "fairway/base/file.h"
#include "fairway/tensor/dtype.h"

namespace fairway::artifact {

/// A named tensor in somebody else's memory.
struct SafeTensor {
  std::string name;
  tensor::DType dtype = tensor::DType::f32;
  std::vector<std::int64_t> shape;  ///< rank 0 to 6; extents may be 0
  std::span<const std::byte> data;  ///< elements() * size_of(dtype) bytes; from a file: of any alignment
  std::int64_t elements() const;
};

/// An open safetensors file; the tensors' bytes point into the map and live as long as this object.
class SafeTensors {
 public:
  /// Maps and checks the file. Input errors: header over limits.max_json or nested too deep, unknown dtype,
  /// offsets that overlap, leave holes or disagree with shape and dtype, duplicate names, missing or trailing
  /// bytes.
  static SafeTensors open(const std::filesystem::path& path, const ReadLimits& limits = {});
  static SafeTensors parse(std::span<const std::byte> bytes, std::string_view what,
                           const ReadLimits& limits = {});

  const std::vector<SafeTensor>& tensors() const { return tensors_; }  ///< sorted by name
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const SafeTensor* find(std::string_view name) const;  ///< null when absent
  const SafeTensor& at(std::string_view name) const;    ///< an input error naming file and tensor when absent
  /// Values converted to float (exact for f32, f16, bf16, i8, u8; rounded for f64, i32, i64).
  std::vector<float> floats(std::string_view name) const;
  /// Values as stored; an input error when the dtype is another one.
  template <class T>
  std::vector<T> values(std::string_view name) const;

 private:
  std::string what_;
  std::vector<SafeTensor> tensors_;
  std::map<std::string, std::string> metadata_;
  std::optional<base::MappedFile> file_;
};

/// Writes atomically. The header lists names in order; the data is laid out by element size, then name, so
/// that each tensor is aligned to its elements and the data to 64 bytes. Same input, same bytes.
void write_safetensors(const std::filesystem::path& path, std::span<const SafeTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace fairway::artifact
