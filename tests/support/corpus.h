#pragma once
// The text and the published tokenizer that ship with the project.

#include <filesystem>
#include <string>

#include "fairway/base/file.h"
#include "fairway/text/tokenizer.h"

namespace fairway::testing {

inline std::filesystem::path data_path(const std::string& name) {
  return std::filesystem::path(FAIRWAY_DATA_DIR) / name;
}

inline const text::Tokenizer& sp1024() {
  static const auto tokenizer = text::Tokenizer::load(data_path("tokenizers/fineweb_1024_bpe.model"));
  return tokenizer;
}

inline const std::string& demo_text() {
  static const std::string text = base::read_text_file(data_path("demo/demo.txt"));
  return text;
}

}  // namespace fairway::testing
