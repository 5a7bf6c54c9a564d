#include "fairway/artifact/coders.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "coder.h"
#include "container.h"
#include "corrections.h"
#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "sections.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

int bits_of(TensorKind kind) {
  switch (kind) {
    case TensorKind::int5:
      return 5;
    case TensorKind::int6:
      return 6;
    case TensorKind::int8:
      return 8;
    case TensorKind::f16:
      return 16;
    case TensorKind::f32:
      return 32;
  }
  return 0;
}

/// Bits of all integers at the entropy of their own histogram.
double entropy_bits(std::span<const std::int8_t> q) {
  std::array<std::uint64_t, 256> counts{};
  for (const auto v : q) ++counts[static_cast<std::uint8_t>(v)];
  double bits = 0;
  for (const auto n : counts)
    if (n > 0)
      bits -= static_cast<double>(n) * std::log2(static_cast<double>(n) / static_cast<double>(q.size()));
  return bits;
}

/// Of a correction: bits of its scales, and of its codes at their entropy or packed.
double scale_bits(const Correction& c) {
  const auto scales = c.group_scales.size() + c.b_scales.size() + (c.rank > 0 ? 1 : 0);
  return 16.0 * static_cast<double>(scales);
}
double packed_bits(const Correction& c) {
  return 2.0 * static_cast<double>(c.a.size()) + 4.0 * static_cast<double>(c.b.size());
}

/// What a section of corrections takes of a file: stored bytes, and its entry in the table.
struct SectionBytes {
  std::uint64_t stored = 0, entry = 0;
};
SectionBytes corrections_in_file(std::span<const std::byte> corrections, Coder coder, int level) {
  if (corrections.empty()) return {};
  ContainerWriter with(kArtifactKind);
  const auto without = with.to_bytes().size();
  with.add(kCorrections, true, corrections, {coder, level});
  const auto stored = std::min(encode(coder, corrections, level).size(), corrections.size());
  return {stored, with.to_bytes().size() - without - stored};
}

std::uint64_t whole_bytes(double bits) { return static_cast<std::uint64_t>(std::ceil(bits / 8)); }

}  // namespace

CoderComparison compare_coders(const Artifact& artifact) {
  CoderComparison result;
  double plain = 0, entropy = 0;
  for (const auto& t : artifact.tensors) {
    const auto n = static_cast<double>(t.elements());
    const double scales = 16.0 * static_cast<double>(t.scales.size()) + scale_bits(t.correction);
    result.weights += static_cast<std::uint64_t>(t.elements());
    plain += n * bits_of(t.kind) + scales + packed_bits(t.correction);
    entropy += entropy_bits(t.correction.a) + entropy_bits(t.correction.b);
    entropy += (is_integer(t.kind) ? entropy_bits(t.q) : n * bits_of(t.kind)) + scales;
  }
  result.plain_bytes = whole_bytes(plain);
  result.entropy_bytes = whole_bytes(entropy);
  const auto raw = encode_weights(artifact.tensors, true);
  const auto corrections = encode_corrections(artifact.tensors);
  result.raw_bytes = raw.size() + corrections.size();
  Artifact rest = artifact;  // all but the weights, which are coded once
  rest.tensors.clear();
  const std::uint64_t empty_weights = encode_weights({}, true).size();
  for (const Coder coder : all_coders()) {
    CoderResult r;
    r.coder = coder;
    r.level = highest_level(coder);
    base::Stopwatch watch;
    const auto stored = encode(coder, raw, r.level);
    r.encode_seconds = watch.seconds();
    watch.restart();
    const auto back = decode(coder, stored, raw.size(), coder_name(coder));
    r.decode_seconds = watch.seconds();
    base::check(std::ranges::equal(back.span(), raw), "coder {} does not give its input back",
                coder_name(coder));
    r.weights_bytes = std::min(stored.size(), raw.size());  // a section that does not shrink is stored raw
    // An empty weights section is shorter than any coder's own overhead, hence stored raw.
    const auto more = corrections_in_file(corrections, coder, r.level);
    r.weights_bytes += more.stored;
    r.file_bytes =
        encode_artifact(rest, {coder, r.level}).size() - empty_weights + r.weights_bytes + more.entry;
    if (result.weights > 0)
      r.bits_per_weight = 8.0 * static_cast<double>(r.weights_bytes) / static_cast<double>(result.weights);
    result.coders.push_back(r);
  }
  return result;
}

}  // namespace fairway::artifact
