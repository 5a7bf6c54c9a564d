#pragma once
// Checkpoints `.fwck`: full-precision masters and state, uncompressed, aligned, mapped rather than read.
// Same container as artifacts (docs/format.md), another magic.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/artifact/artifact.h"
#include "fairway/artifact/limits.h"
#include "fairway/base/file.h"

namespace fairway::artifact {

/// A named fp32 tensor in somebody else's memory.
struct CheckpointTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::span<const float> values;  ///< [elements]
};

/// Named bytes in somebody else's memory (momenta, averages, loader position, ...).
struct CheckpointBuffer {
  std::string name;
  std::span<const std::byte> bytes;  ///< may be empty
};

/// What a checkpoint holds; tensors and buffers are borrowed until write_checkpoint returns.
struct CheckpointContents {
  std::vector<CheckpointTensor> tensors;
  std::vector<CheckpointBuffer> buffers;
  std::string metadata = "{}";  ///< JSON: step, time used, ...
  std::optional<TokenizerSection> tokenizer;
  std::string recipe_text;
};

/// Writes atomically; returns the file's size. Names must be unique among tensors and among buffers.
std::uint64_t write_checkpoint(const std::filesystem::path& path, const CheckpointContents& contents);

/// An open checkpoint. The spans point into the mapped file (64-byte aligned) and live as long as this
/// object.
class Checkpoint {
 public:
  /// Maps and verifies the file; an input error names what is damaged.
  static Checkpoint open(const std::filesystem::path& path, const ReadLimits& limits = {});
  /// Parses bytes that the caller keeps alive. Their start must be 64-byte aligned for typed access.
  static Checkpoint parse(std::span<const std::byte> bytes, std::string_view what,
                          const ReadLimits& limits = {});

  const std::vector<CheckpointTensor>& tensors() const {
    return contents_.tensors;
  }  ///< in the order written
  const std::vector<CheckpointBuffer>& buffers() const {
    return contents_.buffers;
  }                                                             ///< in the order written
  const CheckpointTensor* tensor(std::string_view name) const;  ///< null when absent
  const CheckpointBuffer* buffer(std::string_view name) const;  ///< null when absent
  const std::string& metadata() const { return contents_.metadata; }
  const std::optional<TokenizerSection>& tokenizer() const { return contents_.tokenizer; }
  const std::string& recipe_text() const { return contents_.recipe_text; }

 private:
  CheckpointContents contents_;
  std::optional<base::MappedFile> file_;
};

/// Which of our files this is, from its first bytes.
enum class FileKind { artifact, checkpoint, other };
FileKind file_kind(std::span<const std::byte> bytes);
FileKind file_kind(const std::filesystem::path& path);

}  // namespace fairway::artifact
