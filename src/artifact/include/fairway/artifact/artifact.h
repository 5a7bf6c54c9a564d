#pragma once
// The packed model `.fairway`: named quantised tensors, the tokenizer, the recipe and where it came from.
// Format, byte by byte: docs/format.md. This layer knows nothing of models, quantisers or recipes.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/artifact/limits.h"
#include "fairway/artifact/size_ledger.h"
#include "fairway/tensor/dtype.h"

namespace fairway::artifact {

/// How a tensor's numbers are stored. The values stand in files: never renumber.
enum class TensorKind : std::uint8_t {
  int6 = 0,  ///< q in [-32, 31], one fp16 scale for each row
  int8 = 1,  ///< q in [-128, 127], one fp16 scale for each row
  int5 = 2,  ///< q in [-16, 15], one fp16 scale for each row
  f16 = 3,   ///< IEEE halves as they are
  f32 = 4,   ///< floats as they are
};
std::string_view kind_name(TensorKind kind);  ///< "int6", ..., "f32"
constexpr bool is_integer(TensorKind kind) { return kind <= TensorKind::int5; }

/// What an integer tensor may have beside its grid. With R the Walsh-Hadamard matrix over the root of its
/// size where `rotated`, else the identity: W = (q * scale + A B) R, with the scale of a group in its
/// columns.
struct Correction {
  bool rotated = false;                    ///< columns: a power of two
  std::int64_t group_columns = 0;          ///< columns of each group
  std::vector<std::int64_t> group_starts;  ///< first columns, ascending, without overlaps
  std::vector<tensor::f16> group_scales;   ///< [rows] where there are groups; all finite
  std::int64_t rank = 0;                   ///< of A B; at most rows and columns; 0: none
  std::int64_t b_group = 0;                ///< elements of the row-major B that share a scale
  std::vector<std::int8_t> a, b;           ///< [rows, rank] of -2 .. 1, [rank, columns] of -8 .. 7
  tensor::f16 a_scale{};                   ///< finite
  std::vector<tensor::f16> b_scales;       ///< [ceil(rank * columns / b_group)]; all finite
  bool operator==(const Correction&) const = default;
};

/// One named tensor. Exactly the vectors of its kind are filled: q and scales, or half, or full.
struct StoredTensor {
  std::string name;  ///< 1 to 255 bytes of printable ASCII
  TensorKind kind = TensorKind::f32;
  std::vector<std::int64_t> shape;  ///< rank 0 to 6, each extent >= 1
  std::vector<std::int8_t> q;       ///< [elements] row-major
  std::vector<tensor::f16> scales;  ///< [rows]; all finite
  std::vector<tensor::f16> half;    ///< [elements]
  std::vector<float> full;          ///< [elements]
  Correction correction = {};       ///< of integer kinds

  std::int64_t elements() const;  ///< product of extents; 1 for rank 0
  std::int64_t rows() const;      ///< product of all extents but the last; 1 for rank 0 and 1
};

/// The tokenizer that made the tokens, so that the file can score text on its own.
struct TokenizerSection {
  std::string model;      ///< bytes of the SentencePiece model
  std::string transform;  ///< text transform before tokenising ("none", "caseops", ...)
  std::string byte_rule;  ///< how bytes are counted: "challenge", "exact" or "surface"
  bool operator==(const TokenizerSection&) const = default;
};

/// Where the weights came from. No times of day: equal runs give equal bytes.
struct Provenance {
  std::string build;   ///< version of Fairway
  std::string device;  ///< "cpu", or the name of the GPU model
  std::string isa;     ///< instruction set of the CPU kernels
  std::uint64_t seed = 0;
  std::string data_manifest = "{}";  ///< JSON object: what the training data was; read back in canonical form
  bool operator==(const Provenance&) const = default;
};

struct Artifact {
  std::vector<StoredTensor> tensors;  ///< after reading: in stored order (see `storage_order`)
  std::optional<TokenizerSection> tokenizer;
  std::string recipe_text;  ///< the resolved recipe, TOML
  Provenance provenance;

  const StoredTensor* find(std::string_view name) const;  ///< null when absent
};

/// Entropy coders of a section. The values stand in files: never renumber.
enum class Coder : std::uint8_t {
  raw = 0,
  zstd = 1,
  brotli = 2,
  lzma = 3,
  smallest = 255,  ///< for writers: for each section whichever coder of the table makes it smallest
};
std::string_view coder_name(Coder coder);
std::vector<Coder> all_coders();  ///< those of files
int highest_level(Coder coder);   ///< zstd 22, brotli 11, lzma 9 (which means 9e), raw 0

struct WriteOptions {
  Coder coder = Coder::zstd;
  int level = 22;      ///< 0 or 1 to 22; beyond the coder's highest level: the highest
  bool planes = true;  ///< halves and floats split into byte planes; false: as version 0.1.0 wrote them
  int shuffle = 1;     ///< stride of a byte shuffle of section `weights` before its coder, 1 to 15; 1: none
  /// Integers of each group of matrices in a stream of its own, arranged for its coder (groups.h); the
  /// shuffle is for the rest then.
  bool groups = false;
  int threads = 1;  ///< for groups and Coder::smallest; 0: one for each core. Never changes the bytes
};

/// The file's bytes. Depends on the artifact's content only, not on the order of its tensors.
/// Throws an input error for a coder that is not built in, a check error for an inconsistent tensor.
std::vector<std::byte> encode_artifact(const Artifact& artifact, const WriteOptions& options = {});

/// Parses untrusted bytes; `what` names them in errors. Each damaged byte, truncation and trailing byte is an
/// input error; a required feature this build lacks is an error that names it; unknown optional sections are
/// skipped.
Artifact decode_artifact(std::span<const std::byte> bytes, std::string_view what,
                         const ReadLimits& limits = {});

/// Writes atomically and says where the bytes went.
SizeLedger write_artifact(const std::filesystem::path& path, const Artifact& artifact,
                          const WriteOptions& options = {}, const LedgerOptions& ledger = {});
Artifact read_artifact(const std::filesystem::path& path, const ReadLimits& limits = {});

/// Indices of `tensors` in the order in which they are stored: by kind, then by group (name with layer
/// numbers stripped), then by layer number: similar tensors side by side, which is what the entropy coder
/// wants.
std::vector<std::size_t> storage_order(std::span<const StoredTensor> tensors);

}  // namespace fairway::artifact
