#include "fairway/base/file.h"

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "support/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace fairway::base {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FileTest : public ::testing::Test {
 protected:
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path().filename());
    return found;
  }
  const fairway::testing::Folder own;
  const fs::path folder = own.path();
};

template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return {ErrorKind::failure, ""};
}

TEST_F(FileTest, WithoutCommitNothingIsLeft) {
  {
    AtomicFile file(folder / "a.bin");
    file.write("half of it");
    EXPECT_FALSE(fs::exists(folder / "a.bin"));
    EXPECT_EQ(names().size(), 1u);  // the temporary file stands beside the target
  }
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(FileTest, WithoutCommitTheOldContentStays) {
  write_file(folder / "a.bin", "old");
  { AtomicFile(folder / "a.bin").write("new"); }
  EXPECT_EQ(read_text_file(folder / "a.bin"), "old");
  EXPECT_THAT(names(), ElementsAre("a.bin"));
}

TEST_F(FileTest, CommitReplacesAndLeavesOneFile) {
  write_file(folder / "a.bin", "the old content");
  AtomicFile file(folder / "a.bin");
  file.write("....content");
  file.write(std::string_view("!"));
  file.write_at(0, as_bytes("size"));
  EXPECT_EQ(file.size(), 12u);
  EXPECT_EQ(read_text_file(folder / "a.bin"), "the old content");
  file.commit();
  EXPECT_EQ(read_text_file(folder / "a.bin"), "sizecontent!");
  EXPECT_THAT(names(), ElementsAre("a.bin"));
  EXPECT_THROW(file.write("more"), Error);
  EXPECT_THROW(file.commit(), Error);
}

TEST_F(FileTest, WritingBehindTheEndIsOurOwnBug) {
  AtomicFile file(folder / "a");
  EXPECT_THROW(file.write_at(1, as_bytes("x")), Error);
}

TEST_F(FileTest, TwoWritersOfOneTargetDoNotMeet) {
  AtomicFile first(folder / "a"), second(folder / "a");
  first.write("first");
  second.write("second");
  second.commit();
  EXPECT_EQ(read_text_file(folder / "a"), "second");
  first.commit();
  EXPECT_EQ(read_text_file(folder / "a"), "first");
}

TEST_F(FileTest, MissingFolderIsNamed) {
  const auto error = error_of([&] { AtomicFile file(folder / "none" / "a"); });
  EXPECT_EQ(error.kind(), ErrorKind::input);
  EXPECT_THAT(error.what(), HasSubstr((folder / "none").string()));
  EXPECT_THAT(error.what(), HasSubstr("create it"));
}

TEST_F(FileTest, FolderAsTargetIsRefused) {
  EXPECT_EQ(error_of([&] { AtomicFile file(folder); }).kind(), ErrorKind::input);
}

TEST_F(FileTest, UnwritableFolderIsNamed) {
  // root writes everywhere, except where the kernel itself refuses: /proc, whose error code differs (ENOENT),
  // so the mode bits are only tested for other users.
  const fs::path locked = folder / "locked";
  fs::create_directory(locked);
  fs::permissions(locked, fs::perms::owner_read | fs::perms::owner_exec);
  const auto attempt = [&] {
    const auto error = error_of([&] { AtomicFile file(locked / "a"); });
    const auto folder_error = error_of([&] { make_writable_folder(locked); });
    return error.kind() == ErrorKind::input && folder_error.kind() == ErrorKind::input &&
           std::string(error.what()).find(locked.string() + " is not writable") != std::string::npos;
  };
  if (::geteuid() != 0) {
    EXPECT_TRUE(attempt());
    return;
  }
  fs::permissions(folder, fs::perms::all);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::setuid(65534) == 0 && attempt() ? 0 : 1);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(FileTest, FullDiskIsAFailureThatNamesTheFileAndLeavesNothing) {
  // A limit on the file size makes write fail half-way (EFBIG), as a full disk does (ENOSPC).
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(3);
    int code = 1;
    try {
      AtomicFile file(folder / "a");
      file.write(std::string(10000, 'x'));
      code = 4;
    } catch (const Error& error) {
      const bool named = std::string(error.what()).find((folder / "a").string()) != std::string::npos;
      code = error.kind() == ErrorKind::failure && named ? 0 : 5;
    }
    ::_exit(code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(FileTest, ReadsWhatWasWritten) {
  std::string content(100000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31);
  write_file(folder / "a", content);
  EXPECT_EQ(read_text_file(folder / "a"), content);
  EXPECT_EQ(read_file(folder / "a").size(), content.size());
  EXPECT_EQ(read_text_file(folder / "a", content.size()), content);
  const MappedFile map(folder / "a");
  ASSERT_EQ(map.bytes().size(), content.size());
  EXPECT_EQ(std::memcmp(map.bytes().data(), content.data(), content.size()), 0);
  MappedFile moved = MappedFile(folder / "a");
  MappedFile other = std::move(moved);
  EXPECT_EQ(other.bytes().size(), content.size());
  EXPECT_TRUE(moved.bytes().empty());  // NOLINT: the state after a move is promised
}

TEST_F(FileTest, EmptyAndSizelessFiles) {
  write_file(folder / "empty", "");
  EXPECT_EQ(read_text_file(folder / "empty"), "");
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());
  EXPECT_THAT(read_text_file("/proc/self/status"), HasSubstr("VmPeak"));  // stat says 0 bytes
}

TEST_F(FileTest, ReadErrorsNameThePathAndTheReason) {
  const auto missing = error_of([&] { read_file(folder / "none"); });
  EXPECT_EQ(missing.kind(), ErrorKind::input);
  EXPECT_THAT(missing.what(), HasSubstr((folder / "none").string()));
  EXPECT_THAT(missing.what(), HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { read_file(folder); }).what(), HasSubstr("folder"));
  EXPECT_THAT(error_of([&] { MappedFile map(folder); }).what(), HasSubstr("folder"));
  EXPECT_THAT(error_of([&] { MappedFile map(folder / "none"); }).what(), HasSubstr("none"));
  write_file(folder / "a", "12345");
  const auto large = error_of([&] { read_file(folder / "a", 4); });
  EXPECT_EQ(large.kind(), ErrorKind::input);
  EXPECT_THAT(large.what(), HasSubstr("over 4 bytes"));
  EXPECT_EQ(error_of([&] { read_file("/proc/self/status", 10); }).kind(), ErrorKind::input);
}

TEST_F(FileTest, MakesFoldersWithParents) {
  make_writable_folder(folder / "a" / "b");
  EXPECT_TRUE(fs::is_directory(folder / "a" / "b"));
  EXPECT_NO_THROW(make_writable_folder(folder / "a" / "b"));
  write_file(folder / "file", "");
  EXPECT_EQ(error_of([&] { make_writable_folder(folder / "file"); }).kind(), ErrorKind::input);
  EXPECT_EQ(error_of([&] { make_writable_folder(folder / "file" / "below"); }).kind(), ErrorKind::input);
}

TEST_F(FileTest, GlobSortsByBytesAndMatchesInEveryComponent) {
  for (const auto* name : {"x/b_2.bin", "x/b_10.bin", "x/B_1.bin", "x/c.txt", "y/b_1.bin", "x/[odd].bin"}) {
    make_writable_folder((folder / name).parent_path());
    write_file(folder / name, "");
  }
  const auto found = [&](const std::string& pattern) {
    std::vector<std::string> paths;
    for (const auto& path : glob((folder / pattern).string()))
      paths.push_back(fs::relative(path, folder).string());
    return paths;
  };
  EXPECT_THAT(found("x/b_*.bin"), ElementsAre("x/b_10.bin", "x/b_2.bin"));
  EXPECT_THAT(found("x/[bB]_?.bin"), ElementsAre("x/B_1.bin", "x/b_2.bin"));
  EXPECT_THAT(found("*/b_?.bin"), ElementsAre("x/b_2.bin", "y/b_1.bin"));
  EXPECT_THAT(found("x/c.txt"), ElementsAre("x/c.txt"));
  EXPECT_THAT(found("x/[odd].bin"), ElementsAre("x/[odd].bin"));
  EXPECT_THAT(found("z/*"), IsEmpty());
  EXPECT_THAT(found("none.txt"), IsEmpty());
}

}  // namespace
}  // namespace fairway::base
