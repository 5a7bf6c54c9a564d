#include "parallel.h"

#include "fairway/base/thread_pool.h"

namespace fairway::ops::cpu {

void parallel_for(base::ThreadPool* pool, std::int64_t count, void (*body)(void*, std::int64_t), void* data) {
  if (pool) {
    pool->run(count, [=](std::int64_t i) { body(data, i); });
  } else {
    for (std::int64_t i = 0; i < count; ++i) body(data, i);
  }
}

}  // namespace fairway::ops::cpu
