#pragma once
// Rules that keep what the documents and comments point at: pages and sections of docs/spec, files, names in
// files.

#include "house/layers.h"

namespace fairway::house {

/// Pages of docs/spec by name without ".md", each with the numbers of its headings ("4", "4.2", "2a").
using Spec = std::map<std::string, std::set<std::string>>;
Spec spec_pages(const std::filesystem::path& root);

/// Text files of the whole project that may cite documents: sources, scripts, recipes, Markdown. Not the
/// examples of wrong citations in this test.
std::vector<Source> citing_texts(const std::filesystem::path& root);
/// README.md, docs/*.md and docs/spec/*.md.
std::vector<Source> documents(const std::filesystem::path& root);

/// Citations of the specification: `docs/spec/NAME.md`, inside docs/spec also `NAME.md`, each with or without
/// "section N", "sections N, M to K", must name a page and numbers of its headings.
std::vector<std::string> citation_violations(const Source& text, const Spec& spec);
/// `docs/NAME.md, "words"` must name a page that holds the words.
std::vector<std::string> quotation_violations(const Source& text, const std::filesystem::path& root);
/// Links between documents, and paths between backticks that begin with a folder of the project, must exist.
/// A path may hold {a,b}, and * or <name> for part of a name; `FILE:function` needs that word in the file.
std::vector<std::string> path_violations(const Source& document, const std::filesystem::path& root);
/// Lines that a terminal cannot show, but for rows of tables.
std::vector<std::string> width_violations(const Source& document, std::size_t most_columns);

}  // namespace fairway::house
