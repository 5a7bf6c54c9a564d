#include "fairway/base/error.h"

namespace fairway::base {

void fail_check(std::string_view message, const std::source_location& where) {
  std::string_view file = where.file_name();
  if (auto slash = file.rfind('/'); slash != std::string_view::npos) file.remove_prefix(slash + 1);
  throw Error(ErrorKind::failure, fmt::format("internal error: {} ({}:{}); please report this as a bug",
                                              message, file, where.line()));
}

}  // namespace fairway::base
