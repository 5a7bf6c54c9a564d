#pragma once
// A C++ source as a compiler needs it: without comments, indentation and blank lines. For counting code
// bytes.

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

namespace fairway::build {

class Stripper {
 public:
  explicit Stripper(std::string_view source) : in_(source) {}

  std::string run() {
    while (at_ < in_.size()) step();
    if (line_ < out_.size()) end_line();
    return std::move(out_);
  }

 private:
  char look(std::size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  static bool word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

  void step() {
    const char c = look();
    if (c == '/' && look(1) == '/') {
      at_ = std::min(in_.find('\n', at_), in_.size());
    } else if (c == '/' && look(1) == '*') {
      at_ = std::min(in_.find("*/", at_ + 2), in_.size() - 2) + 2;
      space();
    } else if (c == '\n') {
      end_line();
      ++at_;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      space();
      ++at_;
    } else if (c == '"') {
      raw_next_ ? raw_string() : quoted();
    } else if (c == '\'') {
      quoted();
    } else if (word(c)) {
      token();
      return;
    } else {
      out_ += c;
      ++at_;
    }
    raw_next_ = false;
  }

  /// An identifier or a number, whose digits may be separated by single quotes.
  void token() {
    const std::size_t begin = at_;
    const bool number = std::isdigit(static_cast<unsigned char>(look())) != 0;
    while (word(look()) || (number && look() == '\'' && word(look(1)))) ++at_;
    const auto text = in_.substr(begin, at_ - begin);
    raw_next_ = !number && text.ends_with('R') && text.size() <= 3;  // R"", u8R"", LR""
    out_ += text;
  }

  void quoted() {
    const char quote = look();
    const std::size_t begin = at_++;
    while (at_ < in_.size() && look() != quote) at_ += look() == '\\' ? 2 : 1;
    ++at_;
    out_ += in_.substr(begin, at_ - begin);
  }

  void raw_string() {
    const auto open = in_.find('(', at_);
    const auto close = ")" + std::string(in_.substr(at_ + 1, open - at_ - 1)) + "\"";
    const auto end = in_.find(close, open) + close.size();
    out_ += in_.substr(at_, end - at_);
    at_ = end;
  }

  void space() {
    if (out_.size() > line_ && out_.back() != ' ') out_ += ' ';
  }

  void end_line() {
    while (out_.size() > line_ && out_.back() == ' ') out_.pop_back();
    if (out_.size() > line_) out_ += '\n';
    line_ = out_.size();
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t line_ = 0;  ///< where the present line of `out_` begins
  bool raw_next_ = false;
};

/// `source` must be a file that compiles.
inline std::string strip_code(std::string_view source) { return Stripper(source).run(); }

}  // namespace fairway::build
