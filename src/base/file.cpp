#include "fairway/base/file.h"

#include "fairway/base/error.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

namespace fairway::base {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

/// Closes a descriptor at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

int open_to_read(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_input("cannot open {}: {}", path.string(), reason(errno));
  return descriptor;
}

std::uint64_t regular_size(const Descriptor& file, const fs::path& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_input("cannot read {}: {}", path.string(), reason(errno));
  if (S_ISDIR(status.st_mode)) fail_input("cannot read {}: it is a folder", path.string());
  return S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
}

template <class Container>
Container read_whole(const fs::path& path, std::uint64_t max_bytes) {
  const Descriptor file(open_to_read(path));
  const std::uint64_t expected = regular_size(file, path);
  const auto check_size = [&](std::uint64_t size) {
    if (size > max_bytes)
      fail_input("{} is over {} bytes long, the most that is read here", path.string(), max_bytes);
  };
  check_size(expected);
  Container content(expected, typename Container::value_type{});
  std::size_t filled = 0;
  for (;;) {
    // Pipes and files of /proc tell no size: grow until the end is met.
    if (filled == content.size()) {
      char probe;
      const ssize_t more = ::read(file.get(), &probe, 1);
      if (more == 0) break;
      if (more < 0 && errno != EINTR) fail_input("cannot read {}: {}", path.string(), reason(errno));
      if (more < 0) continue;
      check_size(filled + 1);
      content.resize(std::max<std::size_t>(4096, filled * 2));
      content[filled++] = static_cast<typename Container::value_type>(probe);
      continue;
    }
    const ssize_t got = ::read(file.get(), content.data() + filled, content.size() - filled);
    if (got == 0) break;
    if (got < 0 && errno != EINTR) fail_input("cannot read {}: {}", path.string(), reason(errno));
    if (got > 0) check_size(filled += static_cast<std::size_t>(got));
  }
  content.resize(filled);
  return content;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// Where a write to `target` goes: a link is followed, as the system would, so that it stays a link.
fs::path destination(const fs::path& target) {
  constexpr int kMostLinks = 40;  // as the kernel
  fs::path at = target;
  for (int links = 0; links < kMostLinks; ++links) {
    std::error_code none;
    const auto next = fs::read_symlink(at, none);
    if (none) return at;
    at = next.is_absolute() ? next : folder_of(at) / next;
  }
  fail_input("cannot write {}: {}", target.string(), reason(ELOOP));
}

/// Only a regular file can be replaced: a rename would turn a device or a pipe into a file.
void check_replaceable(const fs::path& target) {
  struct stat status {};
  const int error = ::stat(target.c_str(), &status) == 0 ? 0 : errno;
  if (error == ENAMETOOLONG || error == ELOOP)
    fail_input("cannot write {}: {}", target.string(), reason(error));
  if (target.filename().empty() || (error == 0 && S_ISDIR(status.st_mode)))
    fail_input("cannot write {}: it is a folder; give the name of a file", target.string());
  if (error == 0 && !S_ISREG(status.st_mode))
    fail_input("cannot write {}: it is a device or a pipe; give the name of a file", target.string());
}

/// Beside the target, and within the system's limit on names however long the target's is.
fs::path temporary_beside(const fs::path& target, unsigned number) {
  constexpr std::size_t kLongest = 200;
  return folder_of(target) /
         fmt::format(".{}.{}.{}.tmp", target.filename().string().substr(0, kLongest), ::getpid(), number);
}

}  // namespace

std::vector<std::byte> read_file(const fs::path& path, std::uint64_t max_bytes) {
  return read_whole<std::vector<std::byte>>(path, max_bytes);
}

std::string read_text_file(const fs::path& path, std::uint64_t max_bytes) {
  return read_whole<std::string>(path, max_bytes);
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor file(open_to_read(path));
  const std::uint64_t size = regular_size(file, path);
  if (size == 0) return;
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) fail_input("cannot map {} into memory: {}", path.string(), reason(errno));
  data_ = static_cast<const std::byte*>(address);
  size_ = size;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AtomicFile::AtomicFile(const fs::path& target) : target_(destination(target)) {
  static std::atomic<unsigned> counter{0};  // two writers of one process never share a name
  check_replaceable(target_);
  do {
    temporary_ = temporary_beside(target_, counter++);
    descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);  // left behind by a killed process that had our number
  if (descriptor_ >= 0) return;
  const int error = errno;
  const std::string folder = folder_of(target_).string();
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      fail_input("cannot write {}: there is no folder {}; create it first", target_.string(), folder);
    case EACCES:
    case EPERM:
    case EROFS:
      fail_input("cannot write {}: the folder {} is not writable ({})", target_.string(), folder,
                 reason(error));
    case EINVAL:
    case EILSEQ:
      fail_input("cannot write {}: {}", target_.string(), reason(error));
    default:
      fail("cannot write {}: {}", target_.string(), reason(error));
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) { write_at(size_, bytes); }

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  check(descriptor_ >= 0, "{} written to after its commit", target_.string());
  check(offset <= size_, "{} written to at byte {}, after its end at {}", target_.string(), offset, size_);
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write {}: {}", target_.string(), reason(errno));
    offset += static_cast<std::uint64_t>(written);
    size_ = std::max(size_, offset);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  check(descriptor_ >= 0, "{} committed twice", target_.string());
  if (::fsync(descriptor_) != 0) fail("cannot write {}: {}", target_.string(), reason(errno));
  if (::rename(temporary_.c_str(), target_.c_str()) != 0)
    fail("cannot write {}: {}", target_.string(), reason(errno));
  // The file stands under its own name from here on: what fails below must not remove it.
  ::close(std::exchange(descriptor_, -1));
  const Descriptor folder(::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync a folder (EINVAL), and a folder may be writable but not readable: the
  // rename is done.
  if (folder.get() >= 0 && ::fsync(folder.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    fail("cannot write {}: {}", target_.string(), reason(errno));
}

void write_file(const fs::path& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void write_file(const fs::path& path, std::string_view text) {
  write_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

void make_writable_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail_input("cannot create the folder {}: {}", path.string(), error.message());
  if (!fs::is_directory(path, error)) fail_input("{} is not a folder", path.string());
  if (::access(path.c_str(), W_OK | X_OK) != 0)
    fail_input("the folder {} is not writable: {}", path.string(), reason(errno));
}

std::vector<fs::path> glob(const std::string& pattern) {
  // A plain path matches itself, even one with brackets in its name.
  std::error_code ignored;
  if (fs::exists(pattern, ignored)) return {pattern};
  glob_t found{};
  const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
  struct Free {
    glob_t* found;
    ~Free() { ::globfree(found); }
  } const free_at_end{&found};
  if (status == GLOB_NOSPACE) fail("out of memory while looking for {}", pattern);
  if (status != 0) return {};
  std::vector<fs::path> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  std::sort(paths.begin(), paths.end());  // by bytes: glob(3) sorts by the locale
  return paths;
}

}  // namespace fairway::base
