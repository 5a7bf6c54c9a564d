// The order in which a file is made durable: all its bytes, fsync of the file, rename, fsync of the folder. A
// crash between any two leaves the old content or the new. The calls are this program's own, which note what
// passes and hand it on.
#include "fairway/base/file.h"
#include "support/folder.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

namespace {

std::mutex guard;
bool recording = false;
std::vector<std::string> calls;

/// What a descriptor is open on.
std::string name_of(int descriptor) {
  std::error_code ignored;
  const auto path = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor), ignored);
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode)) return "folder";
  return path.extension() == ".tmp" ? "temporary" : path.filename().string();
}

void note(std::string call) {
  const std::scoped_lock lock(guard);
  // One entry for any number of writes after each other.
  if (recording && (calls.empty() || calls.back() != call)) calls.push_back(std::move(call));
}

template <class F>
F next(const char* name) {
  return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  note("write " + name_of(descriptor));
  return next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite")(descriptor, bytes, count, offset);
}
ssize_t write(int descriptor, const void* bytes, size_t count) {
  if (recording) note("write " + name_of(descriptor));
  return next<ssize_t (*)(int, const void*, size_t)>("write")(descriptor, bytes, count);
}
int fsync(int descriptor) {
  note("fsync " + name_of(descriptor));
  return next<int (*)(int)>("fsync")(descriptor);
}
int rename(const char* from, const char* to) noexcept {
  note("rename " + std::filesystem::path(from).extension().string() + " to " +
       std::filesystem::path(to).filename().string());
  return next<int (*)(const char*, const char*)>("rename")(from, to);
}

}  // extern "C"

namespace fairway::base {
namespace {

using ::testing::ElementsAre;

template <class F>
std::vector<std::string> recorded(F&& body) {
  {
    const std::scoped_lock lock(guard);
    calls.clear();
    recording = true;
  }
  body();
  const std::scoped_lock lock(guard);
  recording = false;
  return calls;
}

TEST(Durable, BytesThenFsyncThenRenameThenTheFolder) {
  const fairway::testing::Folder folder;
  const std::string text(3'000'000, 'x');
  const auto expected =
      ElementsAre("write temporary", "fsync temporary", "rename .tmp to a.bin", "fsync folder");
  EXPECT_THAT(recorded([&] { write_file(folder / "a.bin", std::string_view(text)); }), expected);
  EXPECT_THAT(recorded([&] { write_file(folder / "a.bin", std::string_view("again, over the old one")); }),
              expected);
  EXPECT_THAT(recorded([&] {
                AtomicFile file(folder / "a.bin");
                file.write("....");
                file.write(std::string_view(text));
                file.write_at(0, std::as_bytes(std::span("size", 4)));
                file.commit();
              }),
              expected);
  EXPECT_EQ(read_text_file(folder / "a.bin"), "size" + text);
}

TEST(Durable, WithoutACommitNothingIsRenamed) {
  const fairway::testing::Folder folder;
  EXPECT_THAT(recorded([&] { AtomicFile(folder / "a.bin").write("half"); }), ElementsAre("write temporary"));
}

}  // namespace
}  // namespace fairway::base
