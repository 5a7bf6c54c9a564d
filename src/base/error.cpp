#include "fairway/base/error.h"

namespace fairway::base {

void fail_check(std::string_view message, std::string_view file, int line) {
  if (auto slash = file.rfind('/'); slash != std::string_view::npos) file.remove_prefix(slash + 1);
  throw Error(ErrorKind::failure,
              fmt::format("internal error: {} ({}:{}); please report this as a bug", message, file, line));
}

}  // namespace fairway::base
