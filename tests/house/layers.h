#pragma once
// The layer table of docs/architecture.md as a test sees it, and the rules that a source file must keep.

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace fairway::house {

/// What each layer may include besides itself. A layer that is not a key may not exist.
const std::map<std::string, std::set<std::string>>& allowed_layers();

/// What each folder of the layer `pipeline` may include besides itself and the files at the layer's top. A
/// file at the top includes none of them.
const std::map<std::string, std::set<std::string>>& allowed_rooms();

/// One source file, as the rules need it.
struct Source {
  std::string path;   ///< below the root: "src/base/file.cpp"
  std::string layer;  ///< "base"; "apps" and the like for files outside src/
  std::string text;
};

/// All files below `folder` of `root` whose names end in one of `kinds`.
std::vector<Source> sources_below(const std::filesystem::path& root, const std::string& folder,
                                  const std::set<std::string>& kinds = {".h", ".cpp", ".cu", ".cuh", ".in"});

/// The text with comments and the contents of string literals blanked out; line ends stay.
std::string code_only(std::string_view text);

/// Each function returns one line per violation.
std::vector<std::string> include_violations(const Source& source, const std::filesystem::path& root);
std::vector<std::string> room_violations(const Source& source);     ///< of files of the layer `pipeline`
std::vector<std::string> library_violations(const Source& source);  ///< prints, exits
std::vector<std::string> length_violations(const Source& source, std::size_t most_lines);
std::vector<std::string> path_violations(const Source& source);  ///< absolute paths of somebody's machine

}  // namespace fairway::house
