#include "stages/sources.h"

#include "fairway/base/bytes.h"
#include "fairway/base/hash.h"
#include "fairway/base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

namespace fairway::pipeline {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::size_t kMostLines = 3;

bool same_content(const SourceFile& a, const SourceFile& b) {
  return a.hash == b.hash && a.text_bytes == b.text_bytes && a.tokens == b.tokens && !a.empty();
}
bool same_file(const SourceFile& a, const SourceFile& b) { return a.file && a.file == b.file; }

std::string named(const SourceFile& a, const SourceFile& b) {
  return a.name == b.name ? a.name : fmt::format("{} and {}", a.name, b.name);
}

}  // namespace

std::vector<DocumentKey> keys_of(std::span<const data::Document> documents) {
  std::vector<DocumentKey> keys;
  keys.reserve(documents.size());
  for (const auto& d : documents) keys.push_back({base::hash64(d.text), d.text.size()});
  return keys;
}

std::uint64_t hash_of(std::span<const DocumentKey> documents) {
  return base::hash64(std::as_bytes(documents));
}

Json sources_json(std::span<const SourceFile> sources) {
  Json list = Json::array();
  for (const auto& s : sources) {
    Json entry = {{"file", s.name}};
    if (s.tokens > 0) {
      entry["tokens"] = s.tokens;
    } else {
      entry["documents"] = s.documents;
      entry["text_bytes"] = s.text_bytes;
    }
    if (s.skipped_lines > 0) entry["skipped_lines"] = s.skipped_lines;
    entry["hash"] = base::hex64(s.hash);
    list.push_back(std::move(entry));
  }
  return list;
}

std::vector<std::string> repeated_sources(std::span<const SourceFile> sources) {
  std::vector<std::string> lines;
  std::size_t more = 0;
  for (std::size_t i = 1; i < sources.size(); ++i) {
    const auto before = sources.first(i);
    const auto found = std::ranges::find_if(before, [&](const SourceFile& other) {
      return same_file(other, sources[i]) || same_content(other, sources[i]);
    });
    if (found == before.end()) continue;
    if (lines.size() == kMostLines) {
      ++more;
      continue;
    }
    lines.push_back(same_file(*found, sources[i])
                        ? fmt::format("one file is read twice: {}", named(*found, sources[i]))
                        : fmt::format("the same text is read twice: {}", named(*found, sources[i])));
  }
  if (more > 0) lines.push_back(fmt::format("{} more files are read twice", more));
  return lines;
}

std::vector<std::string> shared_text(std::span<const SourceFile> train, std::span<const DocumentKey> trained,
                                     const ScoredText& validation) {
  std::vector<std::string> lines;
  std::unordered_set<std::uint64_t> seen;
  for (const auto& d : trained) seen.insert(d.hash);
  std::uint64_t documents = 0, bytes = 0, all = 0;
  for (const auto& d : validation.document_keys) {
    all += d.bytes;
    if (d.bytes == 0 || !seen.count(d.hash)) continue;
    ++documents;
    bytes += d.bytes;
  }
  if (documents > 0)
    lines.push_back(
        fmt::format("trained and validated on the same text: {} of {} validation documents ({} of {} bytes) "
                    "are in the training text too, so their score is not one of unseen text",
                    documents, validation.document_keys.size(), bytes, all));
  if (!trained.empty() && !validation.document_keys.empty()) return lines;
  // Shards are compared as wholes.
  for (const auto& v : validation.sources)
    for (const auto& t : train)
      if (lines.size() < kMostLines && (same_file(t, v) || same_content(t, v)))
        lines.push_back(
            fmt::format("trained and validated on the same text: {} is in both, so its score is not one of "
                        "unseen text",
                        named(t, v)));
  return lines;
}

}  // namespace fairway::pipeline
