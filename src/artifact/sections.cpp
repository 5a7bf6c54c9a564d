#include "sections.h"

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "fairway/base/text.h"

namespace fairway::artifact {
namespace {
constexpr std::uint32_t kMaxRuleName = 64;
}

std::vector<std::byte> encode_tokenizer(const TokenizerSection& tokenizer) {
  base::check(tokenizer.transform.size() <= kMaxRuleName && tokenizer.byte_rule.size() <= kMaxRuleName,
              "transform '{}' or byte rule '{}' is too long", tokenizer.transform, tokenizer.byte_rule);
  base::ByteWriter out;
  out.write_string(tokenizer.transform);
  out.write_string(tokenizer.byte_rule);
  out.write(static_cast<std::uint64_t>(tokenizer.model.size()));
  out.write_bytes(base::as_bytes(tokenizer.model));
  return std::move(out).take();
}

TokenizerSection decode_tokenizer(std::span<const std::byte> bytes, std::string_view what,
                                  const ReadLimits& limits) {
  base::ByteReader in(bytes, std::string(what));
  TokenizerSection t;
  t.transform = in.read_string(kMaxRuleName);
  t.byte_rule = in.read_string(kMaxRuleName);
  const auto size = in.read<std::uint64_t>();
  if (size > limits.max_tokenizer) base::fail_input("{}: a tokenizer of {} bytes", what, size);
  const auto model = in.take(size);
  t.model.assign(reinterpret_cast<const char*>(model.data()), model.size());
  if (in.left() != 0) base::fail_input("{}: {} bytes too many", what, in.left());
  return t;
}

std::string decode_text(std::span<const std::byte> bytes, std::string_view what) {
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (const auto bad = base::invalid_utf8_at(text)) base::fail_input("{}: byte {} is not UTF-8", what, *bad);
  return text;
}

}  // namespace fairway::artifact
