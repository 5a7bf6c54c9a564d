#pragma once
// Names of files: what they stand for, whatever their spelling. Nothing here lets an exception of
// std::filesystem out.

#include <sys/types.h>

#include <compare>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

namespace fairway::base {

/// Does something stand under the name (links are followed)? Throws an input error where the system cannot
/// tell: a name too long, links in a circle, a folder that may not be entered.
bool exists(const std::filesystem::path& path);
bool is_folder(const std::filesystem::path& path);

/// The file itself: equal for every spelling, link and hard link of it.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  auto operator<=>(const FileId&) const = default;
};
/// Nothing where no file is.
std::optional<FileId> file_id(const std::filesystem::path& path);

/// Before the work: an output that is one of the inputs is an input error, by whatever name or link. `option`
/// names the output in the message ("--out").
void check_output(std::string_view option, const std::filesystem::path& out,
                  std::span<const std::filesystem::path> inputs);

/// `name` as meant in `folder`, absolute, and without what changes nothing ("." and real folders that are
/// left by ".." again). ".." after a link stays: the system goes on from where the link leads. A `folder`
/// that does not exist is left by ".." all the same (shipped recipes stand in a folder that need not be
/// there).
std::filesystem::path absolute_path(const std::filesystem::path& folder, const std::filesystem::path& name);

}  // namespace fairway::base
