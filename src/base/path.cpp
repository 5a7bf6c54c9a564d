#include "fairway/base/path.h"

#include "fairway/base/error.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace fairway::base {
namespace {

namespace fs = std::filesystem;

/// Nothing: there is no such file.
std::optional<struct stat> status_of(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return status;
  if (errno == ENOENT || errno == ENOTDIR) return {};
  fail_input("cannot use {}: {}", path.string(), std::generic_category().message(errno));
}

/// A folder itself, not a link to one.
bool is_real_folder(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_missing(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) != 0 && errno == ENOENT;
}

}  // namespace

bool exists(const fs::path& path) { return status_of(path).has_value(); }

bool is_folder(const fs::path& path) {
  const auto status = status_of(path);
  return status && S_ISDIR(status->st_mode);
}

std::optional<FileId> file_id(const fs::path& path) {
  const auto status = status_of(path);
  if (!status) return {};
  return FileId{status->st_dev, status->st_ino};
}

void check_output(std::string_view option, const fs::path& out, std::span<const fs::path> inputs) {
  const auto written = file_id(out);
  if (!written) return;
  for (const auto& input : inputs)
    if (file_id(input) == written)
      fail_input("{} {}: this is the input {}, which would be overwritten; give another name", option,
                 out.string(), input.string());
}

fs::path absolute_path(const fs::path& folder, const fs::path& name) {
  fs::path result;
  std::error_code error;
  const auto add = [&](const fs::path& parts, bool may_be_missing) {
    for (const auto& part : parts) {
      if (part.empty() || part == ".") continue;
      const bool up = part == ".." && !result.empty() && result.filename() != "..";
      if (up && (is_real_folder(result) || (may_be_missing && is_missing(result)))) {
        result = result.parent_path();  // of the root: the root
      } else {
        result /= part;
      }
    }
  };
  if (name.is_relative()) {
    if (folder.is_relative()) {
      add(fs::current_path(error), true);
      if (error) fail_input("the current folder is gone ({}); change to another", error.message());
    }
    add(folder, true);
  }
  bool leaving = true;  // while the name only climbs out of the folder
  for (const auto& part : name) {
    leaving = leaving && part == "..";
    add(part, leaving);
  }
  return result;
}

}  // namespace fairway::base
