#include "fairway_code_size.h"

#include "fairway/artifact/size_ledger.h"

namespace fairway::artifact {

std::uint64_t code_bytes() { return FAIRWAY_CODE_BYTES; }

}  // namespace fairway::artifact
