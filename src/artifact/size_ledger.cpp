#include "fairway/artifact/size_ledger.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>

#include "container.h"
#include "fairway/base/file.h"
#include "groups.h"
#include "json.h"
#include "sections.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

constexpr int kMeasureLevel = 3;

std::uint64_t compressed_alone(const WeightsPart& part) {
  std::vector<std::byte> joined;
  for (const auto range : part.ranges) joined.insert(joined.end(), range.begin(), range.end());
  return zstd_compress(joined, kMeasureLevel).size();
}

std::uint64_t raw_size(const WeightsPart& part) {
  return std::accumulate(part.ranges.begin(), part.ranges.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const auto& range) { return sum + range.size(); });
}

/// Shares `total` out in proportion to `weights`, to the unit (largest remainders, ties to the earlier part).
std::vector<std::uint64_t> apportion(std::uint64_t total, const std::vector<std::uint64_t>& weights) {
  using Wide = unsigned __int128;
  const Wide sum = std::accumulate(weights.begin(), weights.end(), Wide{0});
  std::vector<std::uint64_t> shares(weights.size());
  std::vector<std::pair<std::uint64_t, std::size_t>> remainders;
  std::uint64_t given = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Wide product = Wide{total} * weights[i];
    shares[i] = static_cast<std::uint64_t>(product / sum);
    given += shares[i];
    remainders.emplace_back(static_cast<std::uint64_t>(product % sum), i);
  }
  std::stable_sort(remainders.begin(), remainders.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (std::size_t i = 0; given < total; ++i, ++given) ++shares[remainders[i].second];
  return shares;
}

std::string coding_of(const Section& s) {
  std::string text(coder_name(s.coder));
  if (s.shuffle > 1) text += fmt::format(", shuffled by {}", s.shuffle);
  return text;
}
std::string coding_of(const Stream& s) {
  return coding_of(*s.section) + (s.sorted ? ", rows sorted" : "") + (s.transposed ? ", transposed" : "");
}

/// A part's ranges outside of all streams, and how many of its bytes are in which.
struct Split {
  WeightsPart rest;
  std::map<std::size_t, std::uint64_t> in_streams;
};
Split split(const WeightsPart& part, std::span<const Stream> streams) {
  Split result{{part.name, part.kind, part.tensors, {}}, {}};
  for (const auto range : part.ranges) {
    // A tensor is in a stream as a whole or not at all: the last stream that begins before it, if any.
    const auto behind = std::upper_bound(streams.begin(), streams.end(), range.data(),
                                         [](const auto* at, const Stream& s) { return at < s.bytes.data(); });
    const bool inside =
        behind != streams.begin() && range.data() < std::to_address(std::prev(behind)->bytes.end());
    if (inside) {
      result.in_streams[static_cast<std::size_t>(std::prev(behind) - streams.begin())] += range.size();
    } else {
      result.rest.ranges.push_back(range);
    }
  }
  return result;
}

/// A stream's bytes belong to one group, unless the ledger's groups are finer than those of the file.
void add_streams(std::vector<SizePart>& parts, std::span<const Split> splits,
                 std::span<const Stream> streams) {
  for (std::size_t k = 0; k < streams.size(); ++k) {
    std::vector<std::uint64_t> bytes;
    std::vector<std::size_t> owners;
    for (std::size_t i = 0; i < splits.size(); ++i)
      if (const auto found = splits[i].in_streams.find(k); found != splits[i].in_streams.end())
        owners.push_back(i), bytes.push_back(found->second);
    const auto shares = apportion(streams[k].section->stored.size(), bytes);
    for (std::size_t i = 0; i < owners.size(); ++i) {
      parts[owners[i]].stored_bytes += shares[i];
      parts[owners[i]].coding = coding_of(streams[k]);
    }
  }
}

void add_weights(SizeLedger& ledger, const Container& c, const LedgerOptions& options,
                 const ReadLimits& limits) {
  const Section& section = c.at(kWeights);
  const auto whole = whole_weights(c, limits);
  const bool planes = c.required_features & kFeaturePlanes;
  const auto tensors = decode_weights(whole.bytes.span(), planes, c.what + ": section 'weights'", limits);
  std::vector<Split> splits;
  std::vector<std::uint64_t> weights;
  std::vector<SizePart> parts;
  for (const auto& part : weights_parts(tensors, whole.bytes.span(), planes,
                                        options.group ? options.group : strip_layer_number)) {
    splits.push_back(split(part, whole.streams));
    const auto& rest = splits.back().rest;
    weights.push_back(section.coder == Coder::raw ? raw_size(rest)
                      : rest.ranges.empty()       ? 0
                                                  : compressed_alone(rest));
    parts.push_back({"weights/" + part.name, part.kind, part.tensors, raw_size(part), 0, coding_of(section)});
  }
  const auto shares = apportion(section.stored.size(), weights);
  for (std::size_t i = 0; i < parts.size(); ++i) parts[i].stored_bytes = shares[i];
  add_streams(parts, splits, whole.streams);
  ledger.parts.insert(ledger.parts.end(), parts.begin(), parts.end());
}

}  // namespace

std::string strip_layer_number(std::string_view name) {
  std::string out;
  for (std::size_t i = 0; i <= name.size();) {
    const std::size_t dot = std::min(name.find('.', i), name.size());
    const auto part = name.substr(i, dot - i);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](unsigned char c) { return std::isdigit(c); });
    out += number ? std::string_view("*") : part;
    if (dot < name.size()) out += '.';
    i = dot + 1;
  }
  return out;
}

SizeLedger size_ledger(std::span<const std::byte> bytes, std::string_view what, const LedgerOptions& options,
                       const ReadLimits& limits) {
  decode_artifact(bytes, what, limits);
  const Container c = parse_container(bytes, what, kArtifactKind, kArtifactSections, limits);
  SizeLedger ledger;
  ledger.file_bytes = bytes.size();
  ledger.code_bytes = code_bytes();
  ledger.code_bytes_cpu = code_bytes_cpu();
  ledger.published_script_bytes = options.published_script_bytes;
  ledger.parts.push_back({"header", "", 0, c.header_bytes, c.header_bytes});
  for (const Section& s : c.sections) {
    if (s.name.starts_with(kWeights)) ledger.weights_bytes += s.stored.size();
    if (s.name == kWeights) {
      add_weights(ledger, c, options, limits);
      continue;
    }
    if (s.name == kCorrections) {
      ledger.weights_bytes += s.stored.size();
      ledger.parts.push_back({"weights/corrections", "", 0, s.raw_bytes, s.stored.size(), coding_of(s)});
      continue;
    }
    if (s.name == kLayout || s.name == kOrder)
      ledger.parts.push_back({"weights/" + s.name.substr(std::strlen(kStreamPrefix)), "", 0, s.raw_bytes,
                              s.stored.size(), coding_of(s)});
    if (s.name.starts_with(kStreamPrefix)) continue;  // in add_weights
    if (s.name == kTokenizer) ledger.tokenizer_bytes = s.stored.size();
    ledger.parts.push_back({s.name, "", 0, s.raw_bytes, s.stored.size(), coding_of(s)});
  }
  return ledger;
}

SizeLedger size_ledger(const std::filesystem::path& path, const LedgerOptions& options) {
  const base::MappedFile file(path);
  return size_ledger(file.bytes(), path.string(), options);
}

nlohmann::ordered_json SizeLedger::to_json() const {
  nlohmann::ordered_json j;
  j["file_bytes"] = file_bytes;
  j["weights_bytes"] = weights_bytes;
  j["tokenizer_bytes"] = tokenizer_bytes;
  j["code_bytes"] = code_bytes;
  j["code_bytes_cpu"] = code_bytes_cpu;
  j["challenge_bytes"] = challenge_bytes();
  j["self_contained_bytes"] = self_contained_bytes();
  j["limit"] = kChallengeLimit;
  j["fits"] = challenge_bytes() <= kChallengeLimit;
  if (published_script_bytes) {
    j["published_script_bytes"] = *published_script_bytes;
    j["published_bytes"] = *published_bytes();
  }
  auto& list = j["parts"] = nlohmann::ordered_json::array();
  for (const auto& p : parts)
    list.push_back({{"name", p.name},
                    {"kind", p.kind},
                    {"tensors", p.tensors},
                    {"raw_bytes", p.raw_bytes},
                    {"stored_bytes", p.stored_bytes},
                    {"coding", p.coding}});
  return j;
}

}  // namespace fairway::artifact
