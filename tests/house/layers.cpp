#include "house/layers.h"

#include <algorithm>
#include <fstream>
#include <regex>
#include <sstream>

namespace fairway::house {
namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

std::string at_line(const Source& source, std::string_view text, std::ptrdiff_t position) {
  return source.path + ":" + std::to_string(1 + std::count(text.begin(), text.begin() + position, '\n'));
}

/// One line per match of `pattern` in `text`.
Lines matches(const Source& source, const std::string& text, const std::regex& pattern,
              const std::string& what) {
  Lines found;
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end; match != end; ++match)
    found.push_back(at_line(source, text, match->position(1)) + ": " + what + ": " + match->str(1));
  return found;
}

}  // namespace

const std::map<std::string, std::set<std::string>>& allowed_layers() {
  static const std::map<std::string, std::set<std::string>> table = {
      {"base", {}},
      {"tensor", {"base"}},
      {"dist", {"base", "tensor"}},
      {"text", {"base"}},
      {"data", {"base", "text"}},
      {"ops", {"base", "tensor"}},
      {"graph", {"base", "tensor", "dist", "ops"}},
      {"model", {"base", "tensor", "dist", "ops", "graph"}},
      // These know nothing of models.
      {"optim", {"base", "tensor", "dist", "ops"}},
      {"quant", {"base", "tensor", "dist", "ops"}},
      {"artifact", {"base", "tensor", "quant"}},
      {"score", {"base", "tensor", "text", "data"}},
      {"report", {"base"}},
      // A model on a device, and protocols that run one.
      {"exec", {"base", "tensor", "dist", "text", "data", "ops", "graph", "model", "score"}},
      {"adapt",
       {"base", "tensor", "dist", "text", "data", "ops", "graph", "model", "optim", "score", "exec"}},
      {"codec", {"base", "tensor", "dist", "text", "data", "ops", "graph", "model", "score", "exec"}},
      {"pipeline",
       {"base", "tensor", "dist", "text", "data", "ops", "graph", "model", "optim", "quant", "artifact",
        "score", "exec", "adapt", "codec", "report"}},
      {"libfairway",
       {"base", "tensor", "dist", "text", "data", "ops", "graph", "model", "optim", "quant", "artifact",
        "score", "exec", "adapt", "codec", "report", "pipeline"}},
  };
  return table;
}

const std::map<std::string, std::set<std::string>>& allowed_rooms() {
  static const std::map<std::string, std::set<std::string>> table = {
      {"", {}},
      {"recipe", {}},
      {"stages", {"recipe"}},
      {"train", {"recipe", "stages"}},
      {"measure", {"recipe", "stages", "train"}},
      {"run", {"recipe", "stages", "train"}},
      {"sweep", {"recipe", "run"}},
  };
  return table;
}

std::vector<Source> sources_below(const fs::path& root, const std::string& folder,
                                  const std::set<std::string>& kinds) {
  std::vector<Source> sources;
  if (!fs::exists(root / folder)) return sources;
  for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
    if (!entry.is_regular_file() || !kinds.contains(entry.path().extension())) continue;
    const fs::path relative = fs::relative(entry.path(), root);
    auto part = relative.begin();
    const std::string top = *part++;
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    sources.push_back({relative.string(), top == "src" ? part->string() : top, text.str()});
  }
  std::sort(sources.begin(), sources.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return sources;
}

std::string code_only(std::string_view text) {
  std::string code(text);
  const auto starts = [&](std::size_t at, std::string_view what) {
    return text.substr(at, what.size()) == what;
  };
  const auto blank = [&](std::size_t from, std::size_t to) {
    to = std::min(to, text.size());
    for (; from < to; ++from)
      if (code[from] != '\n') code[from] = ' ';
    return to;
  };
  const auto end_of = [&](std::string_view what, std::size_t from) {
    const auto at = text.find(what, from);
    return at == text.npos ? text.size() : at + what.size();
  };
  for (std::size_t at = 0; at < text.size();) {
    if (starts(at, "//")) {
      at = blank(at, std::min(text.find('\n', at), text.size()));
    } else if (starts(at, "/*")) {
      at = blank(at, end_of("*/", at + 2));
    } else if (starts(at, "R\"")) {
      const auto open = std::min(text.find('(', at), text.size());
      at = blank(at, end_of(")" + std::string(text.substr(at + 2, open - at - 2)) + "\"", open));
    } else if (text[at] == '"') {
      std::size_t end = at + 1;
      while (end < text.size() && text[end] != '"' && text[end] != '\n') end += text[end] == '\\' ? 2 : 1;
      at = blank(at + 1, end) + 1;
    } else if (text[at] == '\'' && at > 0 && !std::isalnum(static_cast<unsigned char>(text[at - 1]))) {
      at = end_of("'", at + (starts(at + 1, "\\") ? 3 : 2));  // not the separator in 1'000
    } else {
      ++at;
    }
  }
  return code;
}

Lines include_violations(const Source& source, const fs::path& root) {
  Lines found;
  static const std::regex include(R"re((?:^|\n)[ \t]*#[ \t]*include[ \t]*"([^"]+)")re");
  const auto table = allowed_layers().find(source.layer);
  const bool in_library = source.path.starts_with("src/");
  if (in_library && table == allowed_layers().end())
    return {source.path + ": layer " + source.layer + " is not in the table of tests/house/layers.cpp"};
  const std::string own_headers = "src/" + source.layer + "/include/fairway/";
  const bool is_public = in_library && source.path.starts_with(own_headers);
  const std::string own_folder =
      source.layer == "libfairway" ? own_headers : own_headers + source.layer + "/";
  if (is_public && !source.path.starts_with(own_folder))
    found.push_back(source.path + ": public headers of " + source.layer + " belong in " + own_folder);
  for (std::sregex_iterator match(source.text.begin(), source.text.end(), include), end; match != end;
       ++match) {
    const std::string header = match->str(1);
    const auto where = [&] { return at_line(source, source.text, match->position(1)) + ": "; };
    if (!header.starts_with("fairway/")) {
      if (is_public) found.push_back(where() + "a public header includes the private header " + header);
      continue;
    }
    const std::string rest = header.substr(std::string("fairway/").size());
    const auto slash = rest.find('/');
    const std::string layer = slash == rest.npos ? "libfairway" : rest.substr(0, slash);
    if (!fs::exists(root / "src" / layer / "include" / header))
      found.push_back(where() + "there is no " + header);
    if (in_library && layer != source.layer && !table->second.contains(layer))
      found.push_back(where() + "layer " + source.layer + " may not include " + header);
  }
  return found;
}

Lines room_violations(const Source& source) {
  static const std::regex include(
      R"re((?:^|\n)[ \t]*#[ \t]*include[ \t]*"(?:fairway/pipeline/)?((?:(\w+)/)?\w+\.h)")re");
  if (source.layer != "pipeline") return {};
  // src/pipeline/ROOM/x.cpp, src/pipeline/include/fairway/pipeline/ROOM/x.h
  const fs::path folder = fs::path(source.path).parent_path();
  const bool at_top = folder.filename() == "pipeline";
  const auto own = at_top ? std::string() : folder.filename().string();
  const auto allowed = allowed_rooms().find(own);
  if (allowed == allowed_rooms().end())
    return {source.path + ": room " + own + " is not in the table of tests/house/layers.cpp"};
  Lines found;
  for (std::sregex_iterator match(source.text.begin(), source.text.end(), include), end; match != end;
       ++match) {
    const auto room = match->str(2);
    if (!room.empty() && room != own && !allowed->second.contains(room))
      found.push_back(at_line(source, source.text, match->position(1)) + ": " +
                      (at_top ? "the top of pipeline" : "room " + own) + " may not include " + match->str(1));
  }
  return found;
}

Lines library_violations(const Source& source) {
  // Writing to a stream that the caller hands in is fine; choosing one is not.
  static const std::regex prints(
      R"re((\b(?:std::cout|std::cerr|std::clog|stdout|stderr|v?printf|puts|putchar|perror)\b|\bfmt::print(?:ln)?[ \t]*\([ \t]*"))re");
  static const std::regex exits(
      R"re((?:^|[^.>\w])\b(exit|_exit|_Exit|quick_exit|abort|terminate)[ \t]*\()re");
  const std::string code = code_only(source.text);
  Lines found = matches(source, code, prints, "libraries never print");
  const Lines more = matches(source, code, exits, "libraries never end the process");
  found.insert(found.end(), more.begin(), more.end());
  return found;
}

Lines length_violations(const Source& source, std::size_t most_lines) {
  const auto lines = static_cast<std::size_t>(std::count(source.text.begin(), source.text.end(), '\n'));
  if (lines <= most_lines) return {};
  return {source.path + ": " + std::to_string(lines) + " lines, at most " + std::to_string(most_lines) +
          "; split it"};
}

Lines path_violations(const Source& source) {
  static const std::regex homes(R"re((?:^|[\s"'`(=:,])(/(?:work|root|home|Users)/[\w.-]+))re");
  return matches(source, source.text, homes, "a path of somebody's machine");
}

}  // namespace fairway::house
