#pragma once
#include <string>

#include "fairway/base/file.h"
#include "fairway/text/tokenizer.h"
#include "fairway/text/train.h"
#include "support/corpus.h"
#include "support/errors.h"

namespace fairway::testing {

// Trained once on 200 kB of the demo text.
inline const text::Tokenizer& ours() {
  static const text::Tokenizer tokenizer =
      text::train_tokenizer({std::string_view(demo_text()).substr(0, 200'000)});
  return tokenizer;
}

}  // namespace fairway::testing
