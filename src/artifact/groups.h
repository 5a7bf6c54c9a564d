#pragma once
// Section `weights` with its integers in streams: those of each group of matrices (the same name but for the
// layer's number) stand in a section of their own, in the arrangement and by the coder that make it smallest.
// After docs/spec/caseops_quantization.md section 7.2; bytes: docs/format.md.

#include <cstddef>
#include <span>
#include <vector>

#include "container.h"
#include "fairway/artifact/artifact.h"

namespace fairway::artifact {

/// Adds `weights` and its streams. The bytes are the same for any number of threads.
void add_grouped_weights(ContainerWriter& writer, std::span<const StoredTensor> tensors,
                         const WriteOptions& options);

/// A stream and what of the whole section it holds: neighbouring tensors.
struct Stream {
  const Section* section = nullptr;
  std::span<const std::byte> bytes;  ///< in the whole section
  bool sorted = false, transposed = false;
};

/// Section `weights` of a file with or without groups, as encode_weights made it.
struct WholeWeights {
  RawBytes bytes;
  std::vector<Stream> streams;  ///< in the order of their bytes
};
/// Input errors for whatever does not fit, found before memory is taken for it.
WholeWeights whole_weights(const Container& container, const ReadLimits& limits);

}  // namespace fairway::artifact
