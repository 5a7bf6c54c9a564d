#include "json_field.h"

#include <fmt/format.h>

#include "fairway/base/text.h"

namespace fairway::data {
namespace {

struct Bad {
  std::string why;
  std::size_t at;
};

bool digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& text, unsigned point) {
  const auto add = [&](unsigned byte) { text += static_cast<char>(byte); };
  if (point < 0x80) return add(point);
  if (point < 0x800) {
    add(0xC0 | point >> 6);
  } else {
    if (point < 0x10000) {
      add(0xE0 | point >> 12);
    } else {
      add(0xF0 | point >> 18);
      add(0x80 | (point >> 12 & 0x3F));
    }
    add(0x80 | (point >> 6 & 0x3F));
  }
  add(0x80 | (point & 0x3F));
}

class Scanner {
 public:
  explicit Scanner(std::string_view json) : json_(json) {}

  std::size_t at() const { return at_; }
  bool done() const { return at_ == json_.size(); }
  char peek() const { return done() ? '\0' : json_[at_]; }
  bool take(char c) {
    if (done() || json_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, std::string_view what) {
    if (!take(c)) bad(fmt::format("expected {}", what));
  }
  void space() {
    while (!done() && std::string_view(" \t\r\n").find(json_[at_]) != std::string_view::npos) ++at_;
  }
  [[noreturn]] void bad(std::string why) const {
    if (done()) why = "it ends within the object";
    throw Bad{std::move(why), at_};
  }

  // A string's inside as it is written, escapes checked; the scanner stands behind it.
  std::string_view raw_string() {
    expect('"', "'\"'");
    const auto begin = at_;
    while (!take('"')) {
      if (done()) bad("");
      if (static_cast<unsigned char>(json_[at_]) < 0x20) bad("a control character in a string");
      if (take('\\'))
        escape();
      else
        ++at_;
    }
    return json_.substr(begin, at_ - 1 - begin);
  }
  // A value of any kind; its nesting takes one byte for each level.
  void skip_value() {
    std::string open;
    while (true) {
      space();
      const char c = peek();
      if (c == '{' || c == '[') {
        ++at_;
        open += c == '{' ? '}' : ']';
        space();
        if (!take(open.back())) {
          if (c == '{') skip_key();
          continue;
        }
        open.pop_back();
      } else {
        skip_scalar();
      }
      while (true) {  // the value has ended, and what ends with it
        if (open.empty()) return;
        space();
        if (take(',')) break;
        expect(open.back(), open.back() == '}' ? "',' or '}'" : "',' or ']'");
        open.pop_back();
      }
      if (open.back() == '}') skip_key();
    }
  }

 private:
  void skip_key() {
    space();
    raw_string();
    space();
    expect(':', "':'");
  }
  void escape() {
    if (done()) bad("");
    const char c = json_[at_];
    if (c == 'u') {
      ++at_;
      for (int i = 0; i < 4; ++i, ++at_)
        if (done() || std::string_view("0123456789abcdefABCDEF").find(json_[at_]) == std::string_view::npos)
          bad("expected four hexadecimal digits");
      return;
    }
    if (std::string_view("\"\\/bfnrt").find(c) == std::string_view::npos) bad("an unknown escape");
    ++at_;
  }
  void digits() {
    if (!digit(peek())) bad("expected a digit");
    while (digit(peek())) ++at_;
  }
  void skip_scalar() {
    if (peek() == '"') {
      raw_string();
      return;
    }
    for (const std::string_view word : {"true", "false", "null"})
      if (json_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return;
      }
    for (const std::string_view word : {"NaN", "Infinity", "-Infinity"})
      if (json_.substr(at_).starts_with(word)) bad(fmt::format("{} is no JSON; write null", word));
    const bool minus = take('-');
    if (!minus && !digit(peek())) bad("expected a value");
    if (!take('0')) digits();
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits();
    }
  }

  std::string_view json_;
  std::size_t at_ = 0;
};

unsigned hex4(std::string_view digits) {
  unsigned value = 0;
  for (const char c : digits.substr(0, 4))
    value = value * 16 + static_cast<unsigned>(digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
  return value;
}

char plain_escape(char c) {
  constexpr std::string_view kNames = "bfnrt", kValues = "\b\f\n\r\t";
  const auto found = kNames.find(c);
  return found == std::string_view::npos ? c : kValues[found];
}

// The text of a string whose escapes were checked. Half a surrogate pair is no character: `lone` gets its
// place, the text U+FFFD.
std::string unescape(std::string_view raw, std::size_t& lone) {
  std::string text;
  text.reserve(raw.size());
  lone = std::string_view::npos;
  for (std::size_t at = 0; at < raw.size();) {
    const auto plain = std::min(raw.find('\\', at), raw.size());
    text += raw.substr(at, plain - at);
    at = plain;
    if (at == raw.size()) break;
    if (raw[at + 1] != 'u') {
      text += plain_escape(raw[at + 1]);
      at += 2;
      continue;
    }
    const auto begin = at;
    unsigned point = hex4(raw.substr(at + 2));
    at += 6;
    if (point >= 0xD800 && point < 0xE000) {
      const unsigned low = raw.substr(at).starts_with("\\u") ? hex4(raw.substr(at + 2)) : 0;
      if (point < 0xDC00 && low >= 0xDC00 && low < 0xE000) {
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
        at += 6;
      } else {
        lone = std::min(lone, begin);
        point = 0xFFFD;
      }
    }
    append_utf8(text, point);
  }
  return text;
}

JsonField scan(std::string_view json, std::string_view field) {
  Scanner scanner(json);
  JsonField found;
  scanner.space();
  if (scanner.peek() != '{') {
    scanner.skip_value();
    found.kind = JsonField::Kind::no_object;
  } else {
    scanner.take('{');
    scanner.space();
    bool more = !scanner.take('}');
    while (more) {
      scanner.space();
      std::size_t lone = 0;
      const bool wanted = unescape(scanner.raw_string(), lone) == field;
      scanner.space();
      scanner.expect(':', "':'");
      scanner.space();
      if (wanted && scanner.peek() == '"') {
        const auto begin = scanner.at() + 1;
        const auto raw = scanner.raw_string();
        if (const auto at = base::invalid_utf8_at(raw)) return {JsonField::Kind::not_utf8, "", begin + *at};
        found = {JsonField::Kind::text, unescape(raw, lone), 0};
        if (lone != std::string_view::npos)
          throw Bad{
              fmt::format("\\{} is half a surrogate pair, which is no character", raw.substr(lone + 1, 5)),
              begin + lone};
      } else {
        scanner.skip_value();
        if (wanted) found = {JsonField::Kind::no_text, "", 0};
      }
      scanner.space();
      more = scanner.take(',');
      if (!more) scanner.expect('}', "',' or '}'");
    }
  }
  scanner.space();
  if (!scanner.done()) throw Bad{"more follows the object", scanner.at()};
  return found;
}

}  // namespace

JsonField json_field(std::string_view json, std::string_view field) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";  // a byte order mark
  const std::size_t mark = json.starts_with(kMark) ? kMark.size() : 0;
  JsonField found;
  try {
    found = scan(json.substr(mark), field);
  } catch (const Bad& error) {
    found = {JsonField::Kind::bad, error.why, error.at};
    // Often the grammar breaks because the text is in another encoding.
    const auto wrong = base::invalid_utf8_at(json.substr(mark));
    if (wrong && *wrong <= error.at) found = {JsonField::Kind::not_utf8, "", *wrong};
  }
  found.at += mark;
  return found;
}

}  // namespace fairway::data
