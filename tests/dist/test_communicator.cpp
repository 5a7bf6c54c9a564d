#include "fairway/dist/communicator.h"

#include <gtest/gtest.h>

#include <vector>

#include "fairway/base/error.h"

namespace fairway::dist {
namespace {

TEST(Share, ThePublishedWindowSplit) {
  // docs/spec/ttt.md section 4: 30,284 windows over 8 ranks give 3,785 or 3,786 each.
  std::int64_t next = 0;
  for (int r = 0; r < 8; ++r) {
    const auto part = share(30'284, r, 8);
    EXPECT_EQ(part.begin, next);
    EXPECT_TRUE(part.size() == 3785 || part.size() == 3786) << part.size();
    next = part.end;
  }
  EXPECT_EQ(next, 30'284);
}

TEST(Share, FewerItemsThanParts) {
  EXPECT_EQ(share(2, 0, 4), (base::Range{0, 0}));
  EXPECT_EQ(share(2, 1, 4), (base::Range{0, 1}));
  EXPECT_EQ(share(2, 3, 4), (base::Range{1, 2}));
  EXPECT_THROW(share(2, 4, 4), base::Error);
}

TEST(SingleRank, ExchangesNothing) {
  SingleRank one;
  std::vector<float> values{1, 2};
  one.sum(std::span<float>(values));
  one.broadcast(values, 0);
  EXPECT_EQ(values, (std::vector<float>{1, 2}));
  EXPECT_THROW(one.broadcast(values, 1), base::Error);
}

}  // namespace
}  // namespace fairway::dist
