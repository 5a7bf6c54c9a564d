#pragma once
// Where the bytes of an artifact go. The parts add up to the file's size exactly.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/artifact/limits.h"

namespace fairway::artifact {

/// The challenge's limit on weights and code, decimal (docs/spec/evaluation.md section 4).
inline constexpr std::uint64_t kChallengeLimit = 16'000'000;

/// Bytes of `xz -9e` over a tar of the sources needed to load, score and adapt; fixed when this build was
/// made.
std::uint64_t code_bytes();
/// The same without the folders cuda/: what scoring on a processor needs. Said beside, never what a total
/// counts: the larger figure is the one that holds whoever scores.
std::uint64_t code_bytes_cpu();

/// The name with its numeric components replaced: "blocks.3.attn.c_q.weight" -> "blocks.*.attn.c_q.weight".
std::string strip_layer_number(std::string_view tensor_name);

struct LedgerOptions {
  /// Group of a tensor in the ledger; default: strip_layer_number.
  std::function<std::string(std::string_view)> group;
  /// Bytes of the published training script, for the convention that counts it as the only code.
  std::optional<std::uint64_t> published_script_bytes;
};

/// One line of the ledger.
struct SizePart {
  std::string name;  ///< "header", "weights/blocks.*.attn.c_q.weight", "weights/scales", "tokenizer", ...
  std::string kind;  ///< storage of a tensor group: "int6", ...; empty for other parts
  std::uint64_t tensors = 0;    ///< tensors in the group
  std::uint64_t raw_bytes = 0;  ///< before compression
  /// In the file. Of a group without a stream of its own: its share of the section `weights`, in proportion
  /// to what each group takes when compressed alone (zstd level 3).
  std::uint64_t stored_bytes = 0;
  std::string coding =
      {};  ///< of its section: "brotli", "brotli, shuffled by 2", "lzma, rows sorted, transposed"
};

struct SizeLedger {
  std::vector<SizePart> parts;  ///< stored_bytes add up to file_bytes
  std::uint64_t file_bytes = 0;
  std::uint64_t weights_bytes = 0;  ///< the compressed section `weights` with its streams, and `corrections`
  std::uint64_t tokenizer_bytes = 0;  ///< the compressed tokenizer section alone
  std::uint64_t code_bytes = 0;       ///< artifact::code_bytes()
  std::uint64_t code_bytes_cpu = 0;   ///< artifact::code_bytes_cpu(); part of no total
  std::optional<std::uint64_t> published_script_bytes;

  /// File without its tokenizer section, and code: what the challenge counts.
  std::uint64_t challenge_bytes() const { return file_bytes - tokenizer_bytes + code_bytes; }
  /// The whole file, and code.
  std::uint64_t self_contained_bytes() const { return file_bytes + code_bytes; }
  /// Convention of the published systems: the weights and the training script. Nothing without a script.
  std::optional<std::uint64_t> published_bytes() const {
    if (!published_script_bytes) return std::nullopt;
    return weights_bytes + *published_script_bytes;
  }
  nlohmann::ordered_json to_json() const;  ///< one object, keys as the members, plus limit and the totals
};

/// Reads the ledger off a file's bytes (which are checked as by decode_artifact).
SizeLedger size_ledger(std::span<const std::byte> bytes, std::string_view what,
                       const LedgerOptions& options = {}, const ReadLimits& limits = {});
SizeLedger size_ledger(const std::filesystem::path& path, const LedgerOptions& options = {});

}  // namespace fairway::artifact
