#include "fairway/text/caseops.h"

#include <array>

#include "fairway/base/error.h"

namespace fairway::text {
namespace {

constexpr std::array<std::string_view, fused_operator_count> kOperators = {
    "\xEE\x80\x81", "\xEE\x80\x82", "\xEE\x80\x83", "\xEE\x80\x84", "\xEE\x80\x85", "\xEE\x80\x86"};
constexpr std::size_t kOperatorBytes = 3;

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_lower(c) || is_upper(c); }
char lower(char c) { return is_upper(c) ? static_cast<char>(c + 32) : c; }
char upper(char c) { return is_lower(c) ? static_cast<char>(c - 32) : c; }

std::size_t character_bytes(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

std::optional<CaseOperator> operator_at(std::string_view rest, Markers markers) {
  if (rest.size() < kOperatorBytes || rest[0] != '\xEE' || rest[1] != '\x80') return {};
  const auto last = static_cast<unsigned char>(rest[2]);
  if (last < 0x81 || last > 0x80 + (markers == Markers::fused ? fused_operator_count : case_operator_count))
    return {};
  return static_cast<CaseOperator>(last - 0x81);
}

void put(std::string& out, CaseOperator op) { out += case_operator_text(op); }

/// An operator of a word, together with the space before it where markers are fused. (A space is never
/// escaped, so one at the end of `out` is one.)
void put_marker(std::string& out, CaseOperator op, Markers markers) {
  const bool fused = markers == Markers::fused && out.ends_with(' ');
  if (fused) {
    out.pop_back();
    op = op == CaseOperator::title ? CaseOperator::space_title : CaseOperator::space_all_caps;
  }
  put(out, op);
}

/// Section 2, step 3: a maximal run of letters.
void put_word(std::string& out, std::string_view word, Markers markers) {
  std::size_t capitals = 0;
  for (const char c : word) capitals += is_upper(c);
  const bool first = is_upper(word[0]);
  const auto put_lower = [&] {
    for (const char c : word) out += lower(c);
  };
  if (capitals == 0) {
    out += word;
  } else if (word.size() >= 2 && capitals == word.size()) {
    put_marker(out, CaseOperator::all_caps, markers);
    put_lower();
  } else if (word.size() >= 2 && first && capitals == 1) {
    put_marker(out, CaseOperator::title, markers);
    put_lower();
  } else {
    if (first) put_marker(out, CaseOperator::title, markers);
    out += lower(word[0]);
    for (const char c : word.substr(1)) {
      if (is_upper(c)) put(out, CaseOperator::cap_next);
      out += lower(c);
    }
  }
}

/// The state machine of section 3. `Wrong` is told what is wrong, and where; where it returns, the operator
/// that is pending counts for nothing.
template <class Wrong>
class Decoder {
 public:
  Decoder(std::string_view encoded, Markers markers, const Wrong& wrong)
      : text_(encoded), markers_(markers), wrong_(wrong) {}

  std::string run() {
    read_to(text_.size());
    if (escaped_ || word_ || cap_) drop("nothing follows an operator at the end");
    return std::move(out_);
  }
  /// Bytes of text so far.
  std::size_t read_to(std::size_t end) {
    while (at_ < end) {
      const auto op = operator_at(text_.substr(at_), markers_);
      if (escaped_)
        literal(text_.substr(at_, character_bytes(text_[at_])));
      else if (op)
        take(*op);
      else
        character(text_[at_++]);
    }
    return out_.size();
  }

 private:
  enum class Word { title, all_caps };

  void drop(const char* why) {
    wrong_(why, at_);
    word_.reset();
    cap_ = false;
  }
  void take(CaseOperator op) {
    const bool all_caps = op == CaseOperator::all_caps || op == CaseOperator::space_all_caps;
    if (op == CaseOperator::space_title || op == CaseOperator::space_all_caps) character(' ');
    if (op == CaseOperator::escape) {
      escaped_ = true;
    } else if (op == CaseOperator::cap_next) {
      if (cap_) drop("two operators for one letter");
      cap_ = true;
    } else {
      if (word_ || in_word_ || cap_)
        drop(in_word_ ? "an operator of a word inside it" : "two operators for one word");
      if (!in_word_) word_ = all_caps ? Word::all_caps : Word::title;
    }
    at_ += kOperatorBytes;
  }
  void literal(std::string_view c) {
    const bool letter = is_letter(c[0]);
    if (word_ && !letter) drop("an operator of a word before no letter");
    escaped_ = false;
    out_ += c;
    in_word_ = letter;
    if (!letter) loud_ = false;
    at_ += c.size();
  }
  void character(char c) {
    if (!is_letter(c)) {
      if (word_ || cap_) drop("an operator before no letter");
      in_word_ = loud_ = false;
      out_ += c;
    } else {
      if (in_word_ && word_) drop("an operator of a word inside it");
      const bool capital = loud_ || cap_ || word_.has_value();
      if (!in_word_ && word_ == Word::all_caps) loud_ = true;
      out_ += capital ? upper(c) : c;
      word_.reset();
      cap_ = false;
      in_word_ = true;
    }
  }

  const std::string_view text_;
  const Markers markers_;
  const Wrong& wrong_;
  std::string out_;
  std::size_t at_ = 0;
  std::optional<Word> word_;  ///< pending
  bool cap_ = false, escaped_ = false, in_word_ = false, loud_ = false;
};

}  // namespace

std::string_view case_operator_text(CaseOperator op) { return kOperators[static_cast<std::size_t>(op)]; }

std::optional<CaseOperator> case_operator(std::string_view text) {
  return text.size() == kOperatorBytes ? operator_at(text, Markers::fused) : std::nullopt;
}

std::string caseops_encode(std::string_view text, Markers markers) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && is_letter(text[end])) ++end;
    if (end > at) {
      put_word(out, text.substr(at, end - at), markers);
      at = end;
      continue;
    }
    if (operator_at(text.substr(at), markers)) {
      put(out, CaseOperator::escape);
      out += text.substr(at, kOperatorBytes);
      at += kOperatorBytes;
      continue;
    }
    out += text[at++];
  }
  return out;
}

std::string caseops_decode(std::string_view encoded, std::string_view what, Markers markers) {
  const auto wrong = [&](const char* why, std::size_t at) {
    base::fail_input("{}: no CaseOps text: {} (byte {})", what, why, at);
  };
  return Decoder(encoded, markers, wrong).run();
}

constexpr auto ignored = [](const char*, std::size_t) {};

std::string caseops_decode_any(std::string_view encoded, Markers markers) {
  return Decoder(encoded, markers, ignored).run();
}

std::vector<std::uint64_t> caseops_text_bytes(std::string_view encoded, std::span<const std::size_t> ends,
                                              Markers markers) {
  Decoder decoder(encoded, markers, ignored);
  std::vector<std::uint64_t> bytes;
  bytes.reserve(ends.size());
  for (const std::size_t end : ends) bytes.push_back(decoder.read_to(end));
  return bytes;
}

}  // namespace fairway::text
