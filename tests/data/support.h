#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>

#include "fairway/base/file.h"
#include "fairway/data/documents.h"
#include "fairway/text/tokenizer.h"
#include "support/corpus.h"
#include "support/errors.h"

namespace fairway::testing {

// A folder of its own for a test, removed with it.
class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "fairway-data-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    base::write_file(path_ / name, bytes);
    return path_ / name;
  }
  std::string glob(const std::string& pattern) const { return (path_ / pattern).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace fairway::testing
