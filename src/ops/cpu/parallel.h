#pragma once
// Sharing out work from kernel sources. Not a template over std::function: what kernel sources instantiate
// from the standard library is compiled for their instruction set, and the linker might keep that copy for
// everybody.

#include <cstdint>

namespace fairway::base {
class ThreadPool;
}

namespace fairway::ops::cpu {

/// Calls body(data, i) once for each i in [0, count), on the pool's threads (a null pool: on this one).
void parallel_for(base::ThreadPool* pool, std::int64_t count, void (*body)(void*, std::int64_t), void* data);

}  // namespace fairway::ops::cpu
