#include "fairway_code_size.h"

#include "fairway/artifact/size_ledger.h"

namespace fairway::artifact {

std::uint64_t code_bytes() { return FAIRWAY_CODE_BYTES; }
std::uint64_t code_bytes_cpu() { return FAIRWAY_CODE_BYTES_CPU; }

}  // namespace fairway::artifact
