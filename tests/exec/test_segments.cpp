#include "fairway/exec/segments.h"

#include <gtest/gtest.h>

#include <vector>

namespace fairway::exec {
namespace {

constexpr int kBos = 1;

std::vector<std::int32_t> starts(const std::vector<std::int32_t>& tokens, std::int64_t length,
                                 std::int64_t longest) {
  std::vector<std::int32_t> result(tokens.size(), -1);
  segment_starts(tokens, length, kBos, longest, result);
  return result;
}

using Ints = std::vector<std::int32_t>;

TEST(Segments, BeginWithTheDocumentOrTheRow) {
  EXPECT_EQ(starts({1, 7, 7, 1, 7, 7}, 6, 100), (Ints{0, 0, 0, 3, 3, 3}));
  EXPECT_EQ(starts({7, 7, 1, 1, 7, 7}, 6, 100), (Ints{0, 0, 2, 3, 3, 3}))
      << "the row begins inside a document";
  EXPECT_EQ(starts({7, 1, 7, 7, 7, 1}, 3, 100), (Ints{0, 1, 1, 0, 0, 2})) << "rows do not see each other";
}

TEST(Segments, LongDocumentsAreCutFromTheirBeginning) {
  EXPECT_EQ(starts({7, 1, 7, 7, 7, 7, 7, 1, 7}, 9, 2), (Ints{0, 1, 1, 3, 3, 5, 5, 7, 7}));
  EXPECT_EQ(starts({7, 7, 7, 7}, 4, 3), (Ints{0, 0, 0, 3}));
}

}  // namespace
}  // namespace fairway::exec
