#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>

#include "fairway/base/thread_pool.h"
#include "kernels.h"

namespace fairway::optim {

/// Calls body(begin, length) for the fixed blocks of [0, n) on the pool's threads; allocates nothing.
template <class Body>
void for_blocks(base::ThreadPool& pool, std::int64_t n, const Body& body) {
  const auto one = [&body, n](std::int64_t i) {
    const std::int64_t begin = i * kernels::block;
    body(begin, std::min(kernels::block, n - begin));
  };
  pool.run((n + kernels::block - 1) / kernels::block, std::cref(one));
}

}  // namespace fairway::optim
