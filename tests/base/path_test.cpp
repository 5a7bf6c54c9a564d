#include "fairway/base/path.h"

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "support/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>

namespace fairway::base {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// real/deep, a link to it, and one text in `real` that another one in the folder itself has the name of.
class PathTest : public ::testing::Test {
 protected:
  PathTest() {
    fs::create_directories(folder / "real/deep");
    write_file(folder / "real/t.txt", "meant");
    write_file(folder / "t.txt", "another");
    fs::create_directory_symlink("real/deep", folder / "link");
    fs::create_symlink("loop", folder / "loop");
    fs::create_symlink("none", folder / "dangling");
  }
  static std::string input_error(const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.kind() == ErrorKind::input ? error.what() : "(another kind)";
    }
    return "";
  }
  const fairway::testing::Folder folder;
};

TEST_F(PathTest, AFolderLeftAfterALinkIsTheOneThatTheLinkLeadsInto) {
  const auto path = absolute_path(folder.path(), "link/../t.txt");
  EXPECT_EQ(read_text_file(path), "meant");
  EXPECT_EQ(absolute_path(folder / "link", "../t.txt"), path) << "the folder's own end is such a link too";
  EXPECT_EQ(absolute_path(folder.path(), "link/x/../../t.txt"), folder / "link/x/../../t.txt");
}

TEST_F(PathTest, WhatChangesNothingGoes) {
  EXPECT_EQ(absolute_path(folder.path(), "./real/.//deep/../t.txt"), folder / "real/t.txt");
  EXPECT_EQ(absolute_path("/", "../../etc"), "/etc");
  EXPECT_EQ(absolute_path("", "x/y"), fs::current_path() / "x/y");
  EXPECT_EQ(absolute_path(".", "x"), fs::current_path() / "x");
  EXPECT_EQ(absolute_path(folder.path(), "/a/./b"), "/a/b");
}

TEST_F(PathTest, OnlyTheFolderItselfMayBeMissing) {
  EXPECT_EQ(absolute_path(folder / "none", "../t.txt"), folder / "t.txt");
  EXPECT_EQ(absolute_path(folder.path(), "none/../t.txt"), folder / "none/../t.txt");
  EXPECT_EQ(absolute_path(folder.path(), "t.txt/../t.txt"), folder / "t.txt/../t.txt") << "no folder";
}

TEST_F(PathTest, NamesThatTheSystemCannotLookUpAreInputErrors) {
  EXPECT_TRUE(base::exists(folder / "link"));
  EXPECT_TRUE(is_folder(folder / "link"));
  EXPECT_FALSE(is_folder(folder / "t.txt"));
  EXPECT_FALSE(base::exists(folder / "dangling"));
  EXPECT_FALSE(base::exists(folder / "t.txt/below"));
  const std::string loop = folder("loop/x"), longest = folder(std::string(300, 'n'));
  for (const auto& name : {loop, longest})
    for (const auto& call : std::initializer_list<std::function<void()>>{
             [&] { base::exists(name); }, [&] { is_folder(name); }, [&] { file_id(name); },
             [&] { make_writable_folder(name); }, [&] { write_file(name, "x"); }, [&] { read_file(name); }})
      EXPECT_THAT(input_error(call),
                  AllOf(HasSubstr(name), HasSubstr(name == loop ? "symbolic links" : "name too long")));
}

TEST_F(PathTest, OneFileHasOneIdentity) {
  fs::create_symlink("real/t.txt", folder / "soft");
  fs::create_hard_link(folder / "real/t.txt", folder / "hard");
  const auto id = file_id(folder / "real/t.txt");
  ASSERT_TRUE(id);
  for (const char* name : {"soft", "hard", "./real/../real/t.txt", "link/../t.txt"}) {
    EXPECT_EQ(file_id(folder / name), id) << name;
    const std::array<fs::path, 2> inputs = {folder / "t.txt", folder / name};
    EXPECT_THAT(input_error([&] { check_output("--out", folder / "real/t.txt", inputs); }),
                AllOf(HasSubstr("--out"), HasSubstr(name), HasSubstr("would be overwritten")));
    EXPECT_EQ(input_error([&] { check_output("--out", folder / "new", inputs); }), "");
    EXPECT_EQ(input_error([&] { check_output("--out", folder / "real/deep", inputs); }), "");
  }
  EXPECT_EQ(file_id(folder / "none"), std::nullopt);
}

TEST_F(PathTest, AWriteFollowsLinksAndReplacesRegularFilesOnly) {
  fs::create_symlink("real/t.txt", folder / "soft");
  write_file(folder / "soft", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "soft"));
  EXPECT_EQ(read_text_file(folder / "real/t.txt"), "new");
  write_file(folder / "dangling", "made");
  EXPECT_EQ(read_text_file(folder / "none"), "made");
  EXPECT_THAT(input_error([&] { write_file("/dev/null", "x"); }), HasSubstr("a device or a pipe"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(PathTest, TheLongestNameCanBeWritten) {
  const auto path = folder / std::string(255, 'n');
  write_file(path, "x");
  EXPECT_EQ(read_text_file(path), "x");
}

}  // namespace
}  // namespace fairway::base
