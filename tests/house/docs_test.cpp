// What documents and comments point at exists. The first half shows that the rules can be broken, the second
// that nobody breaks them.
#include "house/docs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fairway::house {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::filesystem::path root = FAIRWAY_SOURCE_DIR;

Source text(std::string content, std::string path = "src/x.cpp") {
  return {std::move(path), "", std::move(content)};
}

TEST(DocRules, CitationsOfNoPageOrSectionAreFound) {
  const Spec spec = {{"model", {"1", "2", "4.2"}}, {"ttt", {"2a", "3"}}};
  const auto found = [&](std::string content, std::string path = "src/x.cpp") {
    return citation_violations(text(std::move(content), std::move(path)), spec);
  };
  EXPECT_THAT(found("// docs/spec/model.md sections 1, 2 and 4.2; docs/spec/ttt.md section 2a."), IsEmpty());
  EXPECT_THAT(found("\n\n// docs/spec/model.md section 3"),
              ElementsAre("src/x.cpp:3: model.md has no section 3"));
  EXPECT_THAT(found("/// docs/spec/model.md\n  /// sections 1 to\n  /// 7"),
              ElementsAre(HasSubstr("no section 7")));
  EXPECT_THAT(found("// docs/spec/none.md"), ElementsAre(HasSubstr("there is no docs/spec/none.md")));
  EXPECT_THAT(found("// spec/model.md section 1"), ElementsAre(HasSubstr("stands in docs/spec")));
  EXPECT_THAT(found("// ttt.md section 3"), ElementsAre(HasSubstr("stands in docs/spec")));
  EXPECT_THAT(found("ttt.md section 4", "docs/spec/model.md"), ElementsAre(HasSubstr("no section 4")));
  EXPECT_THAT(found("docs/data.md section 9, [a](spec/ttt.md)", "docs/a.md"), IsEmpty());
}

TEST(DocRules, QuotationsOfNothingAreFound) {
  EXPECT_THAT(quotation_violations(text("// docs/format.md,\n// \"Code\n// bytes\""), root), IsEmpty());
  EXPECT_THAT(quotation_violations(text("// docs/format.md, \"No such words\""), root), SizeIs(1));
}

TEST(DocRules, PathsThatAreNotThereAreFound) {
  const auto found = [&](const std::string& content) {
    return path_violations(text(content, "docs/x.md"), root);
  };
  EXPECT_THAT(
      found("[a](../README.md) [b](https://x.org/a) [c](#here) `src/<layer>/CMakeLists.txt` `src/none`"),
      ElementsAre("docs/x.md:1: there is no src/none"));
  EXPECT_THAT(found("[a](none.md)"), ElementsAre(HasSubstr("there is no none.md")));
  EXPECT_THAT(found("`tests/house/{docs,layers}.{h,cpp}` `tests/house/*_test.cpp` `recipes/` `bin/x`"),
              IsEmpty());
  EXPECT_THAT(found("`tests/house/{docs,none}.h` `tests/<layer>/*.none`"), SizeIs(2));
  EXPECT_THAT(found("`tests/house/docs.h:fairway::house::spec_pages`"), IsEmpty());
  EXPECT_THAT(found("TODO(names) `src/none` [a](none.md)"), SizeIs(2)) << "no line is excused";
  EXPECT_THAT(found("`tests/house/docs.h:spec_page`"), ElementsAre(HasSubstr("does not hold spec_page")));
}

TEST(DocRules, LongLinesAreFound) {
  EXPECT_THAT(width_violations(text(std::string(121, 'x') + "\n|" + std::string(200, 'x')), 120), SizeIs(1));
  EXPECT_THAT(width_violations(text("é" + std::string(119, 'x')), 120), IsEmpty());
}

template <class Rule>
void expect_kept(const std::vector<Source>& texts, Rule rule) {
  ASSERT_GT(texts.size(), 20u) << "the texts were not found";
  for (const auto& one : texts)
    for (const auto& line : rule(one)) ADD_FAILURE() << line;
}

TEST(Docs, CitationsOfTheSpecificationResolve) {
  const Spec spec = spec_pages(root);
  ASSERT_GT(spec.size(), 10u);
  expect_kept(citing_texts(root), [&](const Source& one) { return citation_violations(one, spec); });
}

TEST(Docs, QuotationsOfPagesResolve) {
  expect_kept(citing_texts(root), [](const Source& one) { return quotation_violations(one, root); });
}

TEST(Docs, LinksAndPathsExist) {
  expect_kept(documents(root), [](const Source& one) { return path_violations(one, root); });
}

TEST(Docs, LinesFitATerminal) {
  expect_kept(documents(root), [](const Source& one) { return width_violations(one, 120); });
}

}  // namespace
}  // namespace fairway::house
