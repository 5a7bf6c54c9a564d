#pragma once
// One error policy: libraries throw Error, only the program prints and exits.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace fairway::base {

/// What went wrong, as the exit code of the program tells it.
enum class ErrorKind {
  input,        ///< bad usage or input: exit code 2
  failure,      ///< anything else that stops the work: exit code 1
  interrupted,  ///< stopped on request: exit code 130
};

/// The exception of all layers. `what()` is one line: what, where, what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string message) : std::runtime_error(std::move(message)), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

/// Bad input or usage: names the thing, where it stands and what to do.
template <class... A>
[[noreturn]] void fail_input(fmt::format_string<A...> format, A&&... args) {
  throw Error(ErrorKind::input, fmt::format(format, std::forward<A>(args)...));
}

/// The work cannot go on though the input was good (disk full, NaN, out of memory).
template <class... A>
[[noreturn]] void fail(fmt::format_string<A...> format, A&&... args) {
  throw Error(ErrorKind::failure, fmt::format(format, std::forward<A>(args)...));
}

/// A format string that remembers where it was written. (Not std::source_location: clang 14, which builds our
/// fuzzers, does not have it.)
template <class... A>
struct LocatedFormat {
  template <class S>
  consteval LocatedFormat(const S& s, const char* where_file = __builtin_FILE(),
                          int where_line = __builtin_LINE())
      : format(s), file(where_file), line(where_line) {}
  fmt::format_string<A...> format;
  const char* file;
  int line;
};

[[noreturn]] void fail_check(std::string_view message, std::string_view file, int line);

/// An invariant of our own code: throws with file and line when it does not hold. Not for user input.
template <class... A>
void check(bool ok, LocatedFormat<std::type_identity_t<A>...> format, A&&... args) {
  if (!ok) [[unlikely]]
    fail_check(fmt::format(format.format, std::forward<A>(args)...), format.file, format.line);
}

}  // namespace fairway::base
