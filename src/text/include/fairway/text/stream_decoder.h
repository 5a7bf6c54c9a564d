#pragma once
// Text from tokens that come one after the other, as a model generates them.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/text/tokenizer.h"

namespace fairway::text {

/// U+FFFD for each byte that is not part of valid UTF-8.
std::string valid_utf8(std::string text);

/// What follows a prompt. Text is handed out once later tokens cannot change it: bytes of a character that is
/// not complete wait for the rest of it, and where a tokenizer rewrites the decoded text as a whole
/// (denormalisation) all of it waits for the end. The parts add up to `text()`, which is valid UTF-8 with
/// U+FFFD for each byte that never became a character, and which keeps the space between the prompt and a
/// first word that SentencePiece would drop from a text of its own.
class StreamDecoder {
 public:
  /// `prompt` and the ids it was read as; both may be empty. The tokenizer is copied (it is cheap).
  StreamDecoder(const Tokenizer& tokenizer, std::string_view prompt, std::span<const std::int32_t> ids);

  /// One token more; returns what is certain now and was not before.
  std::string add(std::int32_t id);
  /// The rest.
  std::string finish();
  const std::string& text() const noexcept { return text_; }  ///< handed out so far

 private:
  std::size_t settled() const;
  std::string decode(std::size_t count) const;
  std::string advance(std::string raw);

  Tokenizer tokenizer_;
  std::vector<std::int32_t> ids_;  // the prompt's too
  std::size_t prompt_ids_ = 0, prompt_bytes_ = 0;
  bool at_once_ = false;  // denormalised
  std::string text_;
};

}  // namespace fairway::text
