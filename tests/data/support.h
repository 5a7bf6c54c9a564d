#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>

#include "fairway/base/file.h"
#include "fairway/data/documents.h"
#include "fairway/text/tokenizer.h"
#include "support/corpus.h"
#include "support/errors.h"
#include "support/folder.h"

namespace fairway::testing {

/// A folder of its own, and what tests of files do in it.
class DataFolder : public Folder {
 public:
  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    base::write_file(*this / name, bytes);
    return *this / name;
  }
  std::string glob(const std::string& pattern) const { return (*this)(pattern); }
};

}  // namespace fairway::testing
