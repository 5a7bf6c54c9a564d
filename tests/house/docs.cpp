#include "house/docs.h"

#include <algorithm>
#include <fstream>
#include <regex>
#include <sstream>

namespace fairway::house {
namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;
using Match = std::sregex_iterator;

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string where(const Source& source, std::ptrdiff_t position) {
  const auto lines = std::count(source.text.begin(), source.text.begin() + position, '\n');
  return source.path + ":" + std::to_string(1 + lines) + ": ";
}

/// The text as one line: line ends and the comment marks behind them are spaces, so that positions stay.
std::string one_line(std::string text) {
  for (std::size_t at = text.find('\n'); at != text.npos; at = text.find('\n', at)) {
    const auto mark = std::min(text.find_first_not_of(" \t\n", at), text.size());
    const auto end = std::min(text.find_first_not_of("/!<#*>", mark), text.size());
    std::fill(text.begin() + static_cast<std::ptrdiff_t>(at), text.begin() + static_cast<std::ptrdiff_t>(end),
              ' ');
    at = end;
  }
  return text;
}

/// "a{b,c}d" as "abd" and "acd".
Lines expanded(const std::string& pattern) {
  const auto open = pattern.find('{'), close = pattern.find('}', open);
  if (open == pattern.npos || close == pattern.npos) return {pattern};
  Lines all;
  std::istringstream parts(pattern.substr(open + 1, close - open - 1));
  for (std::string part; std::getline(parts, part, ',');)
    for (auto& one : expanded(pattern.substr(0, open) + part + pattern.substr(close + 1)))
      all.push_back(std::move(one));
  return all;
}

/// The files and folders that fit a path whose names may hold * or <name>.
std::vector<fs::path> fitting(const fs::path& root, const std::string& pattern) {
  static const std::regex wild(R"(\*|<\w+>)"), special(R"([.+()\[\]])");
  std::vector<fs::path> found = {root};
  for (const auto& part : fs::path(pattern)) {
    const std::string name = part.string();
    if (name.empty()) continue;
    std::vector<fs::path> next;
    for (const auto& folder : found) {
      if (!std::regex_search(name, wild)) {
        if (fs::exists(folder / name)) next.push_back(folder / name);
      } else if (fs::is_directory(folder)) {
        const std::regex fit(std::regex_replace(std::regex_replace(name, special, R"(\$&)"), wild, "[^/]*"));
        for (const auto& entry : fs::directory_iterator(folder))
          if (std::regex_match(entry.path().filename().string(), fit)) next.push_back(entry.path());
      }
    }
    found = std::move(next);
  }
  return found;
}

bool holds_word(const std::string& text, const std::string& word) {
  return std::regex_search(text, std::regex("\\b" + word + "\\b"));
}

}  // namespace

Spec spec_pages(const fs::path& root) {
  static const std::regex heading(R"((?:^|\n)#+ (\d+(?:\.\d+)*[a-z]?)[. ])");
  Spec pages;
  for (const auto& entry : fs::directory_iterator(root / "docs" / "spec")) {
    if (entry.path().extension() != ".md" || entry.path().stem() == "README") continue;
    const std::string text = read(entry.path());
    auto& sections = pages[entry.path().stem().string()];
    for (Match match(text.begin(), text.end(), heading), end; match != end; ++match)
      sections.insert(match->str(1));
  }
  return pages;
}

std::vector<Source> citing_texts(const fs::path& root) {
  static const std::set<std::string> kinds = {".h",  ".cpp",  ".cu",    ".cuh", ".in", ".inc",
                                              ".py", ".toml", ".cmake", ".md",  "",    ".txt"};
  std::vector<Source> texts = {{"README.md", "", read(root / "README.md")}};
  for (const auto* folder :
       {"src", "apps", "tests", "bench", "examples", "cmake", "scripts", "recipes", "docs"})
    for (auto& one : sources_below(root, folder, kinds))
      if (!one.path.starts_with("tests/fuzz/corpus") && !one.path.starts_with("tests/house/docs"))
        texts.push_back(std::move(one));
  return texts;
}

std::vector<Source> documents(const fs::path& root) {
  auto pages = sources_below(root, "docs", {".md"});
  pages.push_back({"README.md", "", read(root / "README.md")});
  return pages;
}

Lines citation_violations(const Source& text, const Spec& spec) {
  static const std::regex citation(
      R"re(([\w./-]*/)?\b([a-z]\w*)\.md\b((?:,? +sections? +)(\d[\w.]*(?:(?: *, *| +and +| +to +| *- *)\d[\w.]*)*))?)re");
  static const std::regex number(R"(\d+(?:\.\d+)*[a-z]?)");
  Lines found;
  const std::string line = one_line(text.text);
  for (Match match(line.begin(), line.end(), citation), end; match != end; ++match) {
    const std::string folder = match->str(1), name = match->str(2), sections = match->str(4);
    const auto page = spec.find(name);
    if (folder == "docs/spec/" && page == spec.end())
      found.push_back(where(text, match->position(2)) + "there is no docs/spec/" + name + ".md");
    if (page == spec.end()) continue;
    const bool inside = text.path.starts_with("docs/spec/") && folder.empty();
    const bool link = folder == "spec/" && text.path.starts_with("docs/");
    if (folder != "docs/spec/" && !inside && !link)
      found.push_back(where(text, match->position(2)) + name + ".md stands in docs/spec");
    for (Match one(sections.begin(), sections.end(), number); one != end; ++one)
      if (!page->second.contains(one->str()))
        found.push_back(where(text, match->position(2)) + name + ".md has no section " + one->str());
  }
  return found;
}

Lines quotation_violations(const Source& text, const fs::path& root) {
  static const std::regex quotation(R"re(\b(docs/(?:spec/)?\w+\.md), +"([^"]+)")re");
  Lines found;
  const std::string line = one_line(text.text);
  for (Match match(line.begin(), line.end(), quotation), end; match != end; ++match) {
    const std::string words = std::regex_replace(match->str(2), std::regex(" +"), " ");
    if (one_line(read(root / match->str(1))).find(words) == std::string::npos)
      found.push_back(where(text, match->position(1)) + match->str(1) + " does not hold \"" + words + "\"");
  }
  return found;
}

Lines path_violations(const Source& document, const fs::path& root) {
  static const std::regex link(R"(\]\(([^)#: ]+)(?:#[^)]*)?\))");
  static const std::regex path(
      R"(`((?:\.ci|src|apps|tests|bench|docs|recipes|scripts|cmake|examples)/[\w./<>{},*-]*?)(?::([\w:]+))?`)");
  Lines found;
  const std::string& text = document.text;
  for (Match match(text.begin(), text.end(), link), end; match != end; ++match)
    if (!fs::exists((root / document.path).parent_path() / match->str(1)))
      found.push_back(where(document, match->position(1)) + "there is no " + match->str(1));
  for (Match match(text.begin(), text.end(), path), end; match != end; ++match) {
    const std::string function = match->str(2), word = function.substr(function.rfind(':') + 1);
    for (const auto& one : expanded(match->str(1))) {
      const auto files = fitting(root, one);
      if (files.empty()) found.push_back(where(document, match->position(1)) + "there is no " + one);
      const auto holds = [&](const fs::path& file) { return holds_word(read(file), word); };
      if (!files.empty() && !word.empty() && std::none_of(files.begin(), files.end(), holds))
        found.push_back(where(document, match->position(1)) + one + " does not hold " + function);
    }
  }
  return found;
}

Lines width_violations(const Source& document, std::size_t most_columns) {
  Lines found;
  std::istringstream lines(document.text);
  std::size_t number = 0;
  for (std::string line; ++number, std::getline(lines, line);) {
    const auto columns = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });
    if (static_cast<std::size_t>(columns) > most_columns && !line.starts_with("|"))
      found.push_back(document.path + ":" + std::to_string(number) + ": " + std::to_string(columns) +
                      " columns, at most " + std::to_string(most_columns));
  }
  return found;
}

}  // namespace fairway::house
