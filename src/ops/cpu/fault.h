#pragma once
#include <cstdint>
#include <string_view>

namespace fairway::ops::cpu {

/// Throws a check error: an index that a kernel of `op` read lies outside [0, limit).
[[noreturn]] void index_fault(std::string_view op, std::int64_t index, std::int64_t limit);

}  // namespace fairway::ops::cpu
