#include <gtest/gtest.h>

#include "fairway/artifact/size_ledger.h"

namespace fairway::artifact {

// The sources of eleven layers, compressed: neither nothing nor a build folder swept in by mistake.
TEST(CodeSize, IsThatOfTheSources) {
  EXPECT_GT(code_bytes(), 10'000u);
  EXPECT_LT(code_bytes(), 1'000'000u);
  EXPECT_GT(code_bytes_cpu(), 10'000u);
  EXPECT_LT(code_bytes_cpu(), code_bytes());
}

}  // namespace fairway::artifact
