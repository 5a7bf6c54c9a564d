// SentencePiece models: any bytes are loaded and work, or are refused with an input error.
#include <cstdint>
#include <numeric>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/text/byte_table.h"
#include "fairway/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fairway;
  try {
    const auto tokenizer =
        text::Tokenizer::from_bytes({reinterpret_cast<const std::byte*>(data), size}, "fuzz.model");
    tokenizer.decode(
        tokenizer.encode(" The caf\xC3\xA9's \xEF\xAC\x81ve  \xE2\x96\x81 tokens\n42 \xF0\x9F\x98\x80"));
    std::vector<std::int32_t> all(static_cast<std::size_t>(tokenizer.vocab_size()));
    std::iota(all.begin(), all.end(), 0);
    tokenizer.decode(all);
    text::make_byte_table(tokenizer, text::ByteRule::challenge);
    text::make_byte_table(tokenizer, text::ByteRule::exact);
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::input) throw;
  }
  return 0;
}
