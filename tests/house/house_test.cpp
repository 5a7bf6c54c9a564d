// Rules that every file of the project keeps. The first half shows that the rules can be broken, the second
// that nobody breaks them.
#include "house/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace fairway::house {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const fs::path root = FAIRWAY_SOURCE_DIR;
constexpr std::size_t most_lines = 500;

Source source(std::string path, std::string layer, std::string text) {
  return {std::move(path), std::move(layer), std::move(text)};
}

TEST(Rules, IncludesOfHigherLayersAreFound) {
  const auto low =
      source("src/base/x.cpp", "base", "#include <vector>\n#include \"fairway/tensor/dtype.h\"\n");
  EXPECT_THAT(include_violations(low, root),
              ElementsAre("src/base/x.cpp:2: layer base may not include fairway/tensor/dtype.h"));
  EXPECT_THAT(
      include_violations(source("src/tensor/x.cpp", "tensor", "#include \"fairway/base/error.h\"\n"), root),
      IsEmpty());
  EXPECT_THAT(include_violations(
                  source("src/optim/x.cpp", "optim", "  #  include \"fairway/model/config.h\"\n"), root),
              ElementsAre(HasSubstr("may not include")));
}

TEST(Rules, OtherIncludeMistakesAreFound) {
  EXPECT_THAT(
      include_violations(source("src/tensor/x.cpp", "tensor", "#include \"fairway/base/none.h\"\n"), root),
      ElementsAre(HasSubstr("there is no fairway/base/none.h")));
  EXPECT_THAT(include_violations(source("src/magic/x.cpp", "magic", ""), root),
              ElementsAre(HasSubstr("not in the table")));
  EXPECT_THAT(include_violations(
                  source("src/base/include/fairway/base/x.h", "base", "#include \"secret.h\"\n"), root),
              ElementsAre(HasSubstr("private header secret.h")));
  EXPECT_THAT(include_violations(source("src/base/include/fairway/tensor/x.h", "base", ""), root),
              ElementsAre(HasSubstr("belong in")));
}

TEST(Rules, IncludesOfHigherRoomsAreFound) {
  const auto found = [](std::string path, std::string text) {
    return room_violations(source("src/pipeline/" + std::move(path), "pipeline", std::move(text)));
  };
  EXPECT_THAT(found("recipe/x.cpp", "#include \"recipe/y.h\"\n#include \"run/z.h\"\n"),
              ElementsAre("src/pipeline/recipe/x.cpp:2: room recipe may not include run/z.h"));
  EXPECT_THAT(found("include/fairway/pipeline/stages/x.h",
                    "#include \"fairway/pipeline/recipe/y.h\"\n#include \"fairway/pipeline/sweep/z.h\"\n"
                    "#include \"fairway/pipeline/engine.h\"\n#include \"fairway/base/error.h\"\n"),
              ElementsAre(HasSubstr("x.h:2: room stages may not include sweep/z.h")));
  EXPECT_THAT(found("x.cpp", "#include \"recipe/y.h\"\n"),
              ElementsAre(HasSubstr("the top of pipeline may not include recipe/y.h")));
  EXPECT_THAT(found("magic/x.cpp", ""), ElementsAre(HasSubstr("not in the table")));
}

TEST(Rules, PrintsAndExitsAreFound) {
  const auto found = [](std::string text) {
    return library_violations(source("src/base/x.cpp", "base", std::move(text)));
  };
  EXPECT_THAT(found("void f() {\n  std::cout << 1;\n}\n"),
              ElementsAre(HasSubstr("x.cpp:2: libraries never print")));
  EXPECT_EQ(found("printf(\"x\"); std::fprintf(stderr, \"x\"); fmt::print(\"x\"); puts(s);").size(), 4u);
  EXPECT_EQ(found("std::exit(1); ::exit(2); exit (3); std::abort(); ::_exit(4);").size(), 5u);
  EXPECT_THAT(found("// exit(1) and printf\n/* abort() */ auto s = \"std::cout exit(1)\"; snprintf(b, 1, f); "
                    "fmt::print(stream_, \"x\"); std::fputs(s, out);"),
              IsEmpty());
  EXPECT_THAT(found("loop.exit(1); state->abort(); scope_exit(f); auto c = '\"'; int n = 1'000;"), IsEmpty());
  EXPECT_EQ(
      found("auto c = '\"'; exit(1); auto d = '\\''; exit(1); auto r = R\"(exit(1) \")\"; exit(1);").size(),
      3u);
}

TEST(Rules, LongFilesAndForeignPathsAreFound) {
  EXPECT_THAT(length_violations(source("src/a.cpp", "a", std::string(501, '\n')), 500),
              ElementsAre(HasSubstr("501 lines")));
  EXPECT_THAT(length_violations(source("src/a.cpp", "a", std::string(500, '\n')), 500), IsEmpty());
  const std::string home = std::string("/ho") + "me/jo";
  EXPECT_EQ(path_violations(source("a", "a", "x\n\"" + home + "/data\"\n")).size(), 1u);
  EXPECT_THAT(path_violations(source("a", "a", "docs" + home + " and /proc/self, a/wo" + "rk/b")), IsEmpty());
}

class House : public testing::Test {
 protected:
  static std::vector<Source> all(std::initializer_list<const char*> folders) {
    std::vector<Source> sources;
    for (const auto* folder : folders)
      for (auto& one : sources_below(root, folder)) sources.push_back(std::move(one));
    return sources;
  }
  template <class Rule>
  static void expect_kept(const std::vector<Source>& sources, Rule rule) {
    ASSERT_GT(sources.size(), 20u) << "the sources were not found";
    for (const auto& one : sources)
      for (const auto& line : rule(one)) ADD_FAILURE() << line;
  }
};

TEST_F(House, LayersIncludeOnlyWhatTheyMay) {
  expect_kept(all({"src", "apps", "bench", "examples"}),
              [](const Source& s) { return include_violations(s, root); });
}

TEST_F(House, RoomsIncludeOnlyRoomsBelow) { expect_kept(all({"src"}), room_violations); }

TEST_F(House, TheTableHasNoCircles) {
  // Depth-first: a layer's allowance must not lead back to it.
  const auto& table = allowed_layers();
  for (const auto& [layer, allowed] : table) {
    std::set<std::string> reached(allowed), open(allowed);
    while (!open.empty()) {
      const auto next = open.extract(open.begin()).value();
      ASSERT_TRUE(table.contains(next)) << next;
      for (const auto& further : table.at(next))
        if (reached.insert(further).second) open.insert(further);
    }
    EXPECT_FALSE(reached.contains(layer)) << layer << " may include itself through others";
  }
}

TEST_F(House, LibrariesNeitherPrintNorExit) { expect_kept(all({"src"}), library_violations); }

TEST_F(House, FilesAreShort) {
  expect_kept(all({"src", "apps"}), [](const Source& s) { return length_violations(s, most_lines); });
}

TEST_F(House, HeadersAreGuarded) {
  expect_kept(all({"src", "apps", "tests"}), [](const Source& s) -> std::vector<std::string> {
    if (!s.path.ends_with(".h") || s.text.find("#pragma once") != s.text.npos) return {};
    if (s.path.ends_with("_c.h") && s.text.find("#ifndef FAIRWAY_") != s.text.npos) return {};  // plain C
    return {s.path + ": #pragma once is missing"};
  });
}

TEST_F(House, NoPathOfSomebodysMachine) {
  expect_kept(all({"src", "apps", "tests", "bench", "examples", "cmake"}), path_violations);
  for (const auto* name : {"README.md", "Makefile", "CMakeLists.txt", "CMakePresets.json", ".ci/run"}) {
    std::ostringstream text;
    text << std::ifstream(root / name).rdbuf();
    EXPECT_FALSE(text.str().empty()) << name;
    EXPECT_THAT(path_violations({name, "", text.str()}), IsEmpty());
  }
}

}  // namespace
}  // namespace fairway::house
