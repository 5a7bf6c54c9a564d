#include <gtest/gtest.h>

#include "fairway/artifact/size_ledger.h"
#include "strip_code.h"

namespace fairway::artifact {

// The sources of eleven layers, compressed: neither nothing nor a build folder swept in by mistake.
TEST(CodeSize, IsThatOfTheSources) {
  EXPECT_GT(code_bytes(), 10'000u);
  EXPECT_LT(code_bytes(), 1'000'000u);
  EXPECT_GT(code_bytes_cpu(), 10'000u);
  EXPECT_LT(code_bytes_cpu(), code_bytes());
}

TEST(StripCode, LeavesWhatACompilerNeeds) {
  using build::strip_code;
  EXPECT_EQ(strip_code("#pragma once\n// why\n\n  int  a = 1;  // one\n"), "#pragma once\nint a = 1;\n");
  EXPECT_EQ(strip_code("int a/* b */c;\n/* whole\n lines */\nf(x /*y*/, z)"), "int a c;\nf(x , z)\n");
  EXPECT_EQ(strip_code("#define F(x) \\\n    g(x)  // h\n"), "#define F(x) \\\ng(x)\n");
  EXPECT_EQ(strip_code("s = \"// no  \\\" /* comment\";  // one\n"), "s = \"// no  \\\" /* comment\";\n");
  EXPECT_EQ(strip_code("c = '\"'; d = '\\''; // e\n"), "c = '\"'; d = '\\'';\n");
  EXPECT_EQ(strip_code("n = 98'304 + 0xff'00u;  // '\n"), "n = 98'304 + 0xff'00u;\n");
  EXPECT_EQ(strip_code("auto r = R\"x(a // \"b\"\n  c)\" )x\";  // d\n"),
            "auto r = R\"x(a // \"b\"\n  c)\" )x\";\n");
  EXPECT_EQ(strip_code("f(CHR, \"R\");"), "f(CHR, \"R\");\n");
}

}  // namespace fairway::artifact
