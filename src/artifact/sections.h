#pragma once
// Sections that artifacts and checkpoints share.

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/artifact/artifact.h"

namespace fairway::artifact {

inline constexpr const char* kWeights = "weights";
inline constexpr const char* kCorrections = "corrections";
inline constexpr const char* kStreamPrefix = "weights:";  ///< and the stream's number
inline constexpr const char* kLayout = "weights:layout";
inline constexpr const char* kOrder = "weights:order";
inline constexpr const char* kTokenizer = "tokenizer";
inline constexpr const char* kRecipe = "recipe";
inline constexpr const char* kProvenance = "provenance";
inline constexpr const char* kIndex = "index";
inline constexpr const char* kMetadata = "metadata";
inline constexpr const char* kTensorPrefix = "tensor:";
inline constexpr const char* kBufferPrefix = "buffer:";
inline constexpr std::array<std::string_view, 6> kArtifactSections{kWeights,   kStreamPrefix, kCorrections,
                                                                   kTokenizer, kRecipe,       kProvenance};
inline constexpr std::array<std::string_view, 6> kCheckpointSections{
    kIndex, kMetadata, kRecipe, kTokenizer, kTensorPrefix, kBufferPrefix};
inline constexpr int kMaxJsonDepth = 32;

std::vector<std::byte> encode_tokenizer(const TokenizerSection& tokenizer);
TokenizerSection decode_tokenizer(std::span<const std::byte> bytes, std::string_view what,
                                  const ReadLimits& limits);
/// UTF-8 text; an input error names the first bad byte.
std::string decode_text(std::span<const std::byte> bytes, std::string_view what);

}  // namespace fairway::artifact
