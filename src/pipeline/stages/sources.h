#pragma once
// What a run reads, file by file: for its manifest, and to find text that is read twice.

#include "fairway/pipeline/stages/corpus.h"

#include <nlohmann/json.hpp>

#include <span>
#include <string>
#include <vector>

namespace fairway::pipeline {

/// Hash and bytes of each document.
std::vector<DocumentKey> keys_of(std::span<const data::Document> documents);
/// Of all of them in their order.
std::uint64_t hash_of(std::span<const DocumentKey> documents);

/// For a manifest: names without folders, as they may hold a user's.
nlohmann::ordered_json sources_json(std::span<const SourceFile> sources);

/// One line for each file that is read twice, by whatever name or link, or whose content another one has.
std::vector<std::string> repeated_sources(std::span<const SourceFile> sources);

/// A line when text is both trained and scored on: documents, and shards as wholes.
std::vector<std::string> shared_text(std::span<const SourceFile> train, std::span<const DocumentKey> trained,
                                     const ScoredText& validation);

}  // namespace fairway::pipeline
