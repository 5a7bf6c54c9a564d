#pragma once
// The decoded "weights" section: a directory of tensors, then their payloads (docs/format.md).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/artifact/artifact.h"
#include "fairway/base/bytes.h"

namespace fairway::artifact {

/// Throws a check error for a tensor whose vectors, shape or values do not fit its kind.
void check_tensor(const StoredTensor& tensor);

/// Input errors that name `what` for a name or a shape that the format does not allow.
void check_tensor_name(std::string_view name, std::string_view what, const ReadLimits& limits);

/// Product of the extents of a tensor from a file. An input error for a rank over kMaxRank, an extent below
/// `least` or more than `max_elements` elements.
std::uint64_t checked_elements(std::span<const std::int64_t> shape, std::int64_t least,
                               std::uint64_t max_elements, std::string_view what);

/// `planes`: the arrays of scales, halves and floats hold first the lowest byte of each number, then the
/// next,
/// ...: exponents beside exponents, which any entropy coder likes better.
std::vector<std::byte> encode_weights(std::span<const StoredTensor> tensors, bool planes);
/// The directory alone: tensors without values; `in` stands behind it afterwards.
std::vector<StoredTensor> decode_directory(base::ByteReader& in, std::string_view what,
                                           const ReadLimits& limits);
/// Where the integers of `tensors` begin in the section `bytes` that holds them.
std::size_t integers_at(std::span<const StoredTensor> tensors, std::span<const std::byte> bytes);
std::vector<StoredTensor> decode_weights(std::span<const std::byte> bytes, bool planes, std::string_view what,
                                         const ReadLimits& limits);

/// Bytes [first, first + count) of the decoded section that belong together in the size ledger.
struct WeightsPart {
  std::string name;  ///< group, or "directory", "scales"
  std::string kind;  ///< "int6", ...; empty for the directory
  std::uint64_t tensors = 0;
  std::vector<std::span<const std::byte>> ranges;
};
/// Cuts the section `bytes`, which holds `tensors` in this order, into the parts of the ledger.
std::vector<WeightsPart> weights_parts(std::span<const StoredTensor> tensors,
                                       std::span<const std::byte> bytes, bool planes,
                                       const std::function<std::string(std::string_view)>& group);

}  // namespace fairway::artifact
