#include "fairway/dist/communicator.h"

#include "fairway/base/error.h"

namespace fairway::dist {

void SingleRank::broadcast(std::span<float>, int root) {
  base::check(root == 0, "broadcast from rank {} of one", root);
}

base::Range share(std::int64_t items, std::int64_t part, std::int64_t parts) {
  base::check(items >= 0 && parts >= 1 && part >= 0 && part < parts, "part {} of {} of {} items", part, parts,
              items);
  return {items * part / parts, items * (part + 1) / parts};
}

}  // namespace fairway::dist
