#pragma once
#include <gtest/gtest.h>

#include <string>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/text/tokenizer.h"
#include "fairway/text/train.h"

namespace fairway::testing {

inline std::filesystem::path data_path(const std::string& name) {
  return std::filesystem::path(FAIRWAY_DATA_DIR) / name;
}

inline const text::Tokenizer& sp1024() {
  static const text::Tokenizer tokenizer =
      text::Tokenizer::load(data_path("tokenizers/fineweb_1024_bpe.model"));
  return tokenizer;
}

inline const std::string& demo_text() {
  static const std::string text = base::read_text_file(data_path("demo/demo.txt"));
  return text;
}

// Trained once on 200 kB of the demo text.
inline const text::Tokenizer& ours() {
  static const text::Tokenizer tokenizer =
      text::train_tokenizer({std::string_view(demo_text()).substr(0, 200'000)});
  return tokenizer;
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
