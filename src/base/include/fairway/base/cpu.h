#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace fairway::base {

/// Instruction sets our CPU kernels are compiled for, weakest first.
enum class Isa { scalar, avx2, avx512, avx512_bf16 };

Isa best_isa();                                       ///< the strongest this processor has
std::string_view isa_name(Isa isa);                   ///< "scalar", "avx2", "avx512", "avx512_bf16"
std::optional<Isa> parse_isa(std::string_view name);  ///< nothing for an unknown name
std::string cpu_model();                              ///< the processor's own name, or "unknown"

}  // namespace fairway::base
