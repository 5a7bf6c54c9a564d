#pragma once
// The decoded "corrections" section: what some integer tensors have beside their grid (docs/format.md).

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "fairway/artifact/artifact.h"

namespace fairway::artifact {

/// Throws a check error for a correction that does not fit its tensor.
void check_correction(const StoredTensor& tensor);

/// Of all tensors in stored order; empty when no tensor has one.
std::vector<std::byte> encode_corrections(std::span<const StoredTensor> tensors);
/// Fills the corrections of `tensors`, which are in stored order. What does not fit them is an input error.
void decode_corrections(std::span<const std::byte> bytes, std::span<StoredTensor> tensors,
                        std::string_view what, const ReadLimits& limits);

}  // namespace fairway::artifact
