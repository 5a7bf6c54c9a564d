#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/data/documents.h"
#include "fairway/text/tokenizer.h"

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

inline const text::Tokenizer& sp1024() {
  static const text::Tokenizer tokenizer =
      text::Tokenizer::load(std::filesystem::path(FAIRWAY_DATA_DIR) / "tokenizers/fineweb_1024_bpe.model");
  return tokenizer;
}

inline const std::string& demo_text() {
  static const std::string text =
      base::read_text_file(std::filesystem::path(FAIRWAY_DATA_DIR) / "demo/demo.txt");
  return text;
}

template <class F>
std::string input_error(const F& f) {
  try {
    f();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::input) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

}  // namespace fairway::testing
