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

std::uint64_t whole_bytes(double bits) { return static_cast<std::uint64_t>(std::ceil(bits / 8)); }

/// Each coder alone, and what the CaseOps systems do (docs/spec/caseops_quantization.md section 7).
std::vector<WriteOptions> ways(int threads) {
  std::vector<WriteOptions> list;
  for (const Coder coder : all_coders()) list.push_back({.coder = coder, .level = highest_level(coder)});
  list.push_back({.coder = Coder::brotli, .level = highest_level(Coder::brotli), .shuffle = 2});
  list.push_back({.coder = Coder::smallest, .groups = true, .threads = threads});
  return list;
}

}  // namespace

std::string CoderResult::name() const {
  if (how.groups) return fmt::format("groups, {}", coder_name(how.coder));
  return fmt::format("{} {}{}", coder_name(how.coder), how.level,
                     how.shuffle > 1 ? fmt::format(", shuffled by {}", how.shuffle) : "");
}

CoderComparison compare_coders(const Artifact& artifact, int threads) {
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
  for (const auto& how : ways(threads)) {
    CoderResult r;
    r.how = how;
    base::Stopwatch watch;
    const auto file = encode_artifact(artifact, how);
    r.encode_seconds = watch.seconds();
    watch.restart();
    const auto back = decode_artifact(file, r.name());
    r.decode_seconds = watch.seconds();
    base::check(encode_weights(back.tensors, true) == raw && encode_corrections(back.tensors) == corrections,
                "coder {} does not give its input back", r.name());
    r.file_bytes = file.size();
    r.weights_bytes = size_ledger(file, r.name()).weights_bytes;
    if (result.weights > 0)
      r.bits_per_weight = 8.0 * static_cast<double>(r.weights_bytes) / static_cast<double>(result.weights);
    result.coders.push_back(r);
  }
  return result;
}

}  // namespace fairway::artifact
