#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace fairway::optim {

/// One piece of an optimiser's state, in place: a checkpoint copies the bytes out, resuming copies them back
/// in. Names are unique within an optimiser and stable; all pieces together are the whole state.
struct StateBuffer {
  std::string name;
  std::span<std::byte> bytes;
};

/// How values and moments are stored between steps. Both live in float arrays; `bf16` rounds on each store,
/// which gives the numbers of tables kept in bfloat16 (arithmetic is fp32 either way).
enum class Storage { f32, bf16 };

}  // namespace fairway::optim
