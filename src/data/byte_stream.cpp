#include "byte_stream.h"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "fairway/base/error.h"

namespace fairway::data {
namespace {

using base::fail_input;

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;
// A decoder's window at most, as much as one document: `zstd --long=30`. It is taken only by files that ask
// for it.
constexpr int kMaxZstdWindowLog = 30;
constexpr std::uint64_t kMaxXzBytes = (std::uint64_t{1} << 30) + (std::uint64_t{64} << 20);

class FileStream final : public ByteStream {
 public:
  explicit FileStream(const std::filesystem::path& path)
      : path_(path), file_(path == "-" ? stdin : std::fopen(path.c_str(), "rb"), &close) {
    if (!file_) fail_input("{}: cannot be read ({})", path.string(), std::strerror(errno));
    if (path != "-" && std::filesystem::is_directory(path))
      fail_input("{}: is a folder; give files or a pattern", path.string());
  }
  std::size_t read(std::span<char> out) override {
    const std::size_t got = std::fread(out.data(), 1, out.size(), file_.get());
    if (got < out.size() && std::ferror(file_.get()))
      base::fail("{}: read error ({})", path_ == "-" ? "standard input" : path_.string(),
                 std::strerror(errno));
    return got;
  }

 private:
  static int close(std::FILE* file) { return file == stdin ? 0 : std::fclose(file); }
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

class MemoryStream final : public ByteStream {
 public:
  explicit MemoryStream(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::size_t read(std::span<char> out) override {
    const std::size_t count = std::min(out.size(), bytes_.size());
    if (count != 0) std::memcpy(out.data(), bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
    return count;
  }

 private:
  std::span<const std::byte> bytes_;
};

// Shows its first bytes before they are read.
class PeekStream final : public ByteStream {
 public:
  explicit PeekStream(std::unique_ptr<ByteStream> source) : source_(std::move(source)) {
    while (filled_ < head_.size()) {
      const std::size_t got = source_->read(std::span(head_).subspan(filled_));
      if (got == 0) break;
      filled_ += got;
    }
  }
  std::string_view head() const { return {head_.data(), filled_}; }
  std::size_t read(std::span<char> out) override {
    if (begin_ == filled_) return source_->read(out);
    const std::size_t count = std::min(out.size(), filled_ - begin_);
    std::copy_n(head_.data() + begin_, count, out.data());
    begin_ += count;
    return count;
  }

 private:
  std::unique_ptr<ByteStream> source_;
  std::array<char, 6> head_{};
  std::size_t begin_ = 0, filled_ = 0;
};

// The part the three decoders share: an input buffer that is refilled from below, and what may lie between
// the members of a file.
class Decoder : public ByteStream {
 public:
  Decoder(std::unique_ptr<ByteStream> source, std::string name)
      : source_(std::move(source)), name_(std::move(name)), buffer_(kBufferBytes) {}

 protected:
  // Unread input; empty only at the end of the file.
  std::span<const char> input() {
    if (begin_ == end_ && !source_end_) {
      begin_ = 0;
      end_ = source_->read(buffer_);
      source_end_ = end_ == 0;
    }
    return std::span<const char>(buffer_).subspan(begin_, end_ - begin_);
  }
  void consume(std::size_t count) { begin_ += count; }

  // Behind a member: whether another begins. Zeros between them and at the end are padding where the format
  // has it, in units of so many bytes (0: none); `begins` knows a member's first byte.
  bool another(std::string_view format, std::size_t padding_unit, bool (*begins)(unsigned char)) {
    std::size_t padding = 0;
    auto in = input();
    while (padding_unit != 0 && !in.empty() && in[0] == 0) {
      const auto zeros = static_cast<std::size_t>(
          std::find_if(in.begin(), in.end(), [](char c) { return c != 0; }) - in.begin());
      padding += zeros;
      consume(zeros);
      in = input();
    }
    if (padding != 0 && padding % padding_unit != 0)
      fail_input("{}: damaged {} data ({} bytes of padding are no multiple of {})", name_, format, padding,
                 padding_unit);
    if (in.empty()) return false;
    if (!begins(static_cast<unsigned char>(in[0])))
      fail_input("{}: bytes that are no {} data follow its end; the file is damaged or was appended to",
                 name_, format);
    return true;
  }
  [[noreturn]] void truncated() const {
    fail_input("{}: compressed data ends too early; the file is truncated", name_);
  }
  [[noreturn]] void damaged(std::string_view format) const {
    fail_input("{}: damaged {} data", name_, format);
  }
  [[noreturn]] void too_large(std::string_view command) const {
    fail_input("{}: needs over 1 GiB of memory to decompress; give its text by a pipe: {} {} | fairway ... -",
               name_, command, name_);
  }

  std::unique_ptr<ByteStream> source_;
  std::string name_;

 private:
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  bool source_end_ = false;
};

class GzipStream final : public Decoder {
 public:
  GzipStream(std::unique_ptr<ByteStream> source, std::string name)
      : Decoder(std::move(source), std::move(name)) {
    if (inflateInit2(&z_, 16 + MAX_WBITS) != Z_OK) base::fail("{}: zlib cannot start", name_);
  }
  ~GzipStream() override { inflateEnd(&z_); }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;

  std::size_t read(std::span<char> out) override {
    z_.next_out = reinterpret_cast<Bytef*>(out.data());
    z_.avail_out = static_cast<uInt>(out.size());
    while (z_.avail_out == out.size()) {
      if (at_end_) {
        if (!another("gzip", 1, [](unsigned char c) { return c == 0x1f; })) break;
        inflateReset(&z_);
        at_end_ = false;
      }
      const auto in = input();
      if (in.empty()) truncated();
      z_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
      z_.avail_in = static_cast<uInt>(in.size());
      const int status = inflate(&z_, Z_NO_FLUSH);
      consume(in.size() - z_.avail_in);
      at_end_ = status == Z_STREAM_END;
      if (!at_end_ && status != Z_OK && status != Z_BUF_ERROR) damaged("gzip");
    }
    return out.size() - z_.avail_out;
  }

 private:
  z_stream z_{};
  bool at_end_ = false;  // of a member
};

class XzStream final : public Decoder {
 public:
  XzStream(std::unique_ptr<ByteStream> source, std::string name)
      : Decoder(std::move(source), std::move(name)) {
    start();
  }
  ~XzStream() override { lzma_end(&z_); }
  XzStream(const XzStream&) = delete;
  XzStream& operator=(const XzStream&) = delete;

  std::size_t read(std::span<char> out) override {
    z_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    z_.avail_out = out.size();
    while (z_.avail_out == out.size()) {
      if (at_end_) {
        if (!another("xz", 4, [](unsigned char c) { return c == 0xfd; })) break;
        start();
        at_end_ = false;
      }
      const auto in = input();
      z_.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
      z_.avail_in = in.size();
      const lzma_ret status = lzma_code(&z_, in.empty() ? LZMA_FINISH : LZMA_RUN);
      consume(in.size() - z_.avail_in);
      at_end_ = status == LZMA_STREAM_END;
      if (status == LZMA_MEMLIMIT_ERROR) too_large("xz -dc");
      if (status == LZMA_MEM_ERROR) base::fail("{}: not enough memory to decompress", name_);
      if (status == LZMA_BUF_ERROR) truncated();
      if (!at_end_ && status != LZMA_OK) damaged("xz");
    }
    return out.size() - z_.avail_out;
  }

 private:
  void start() {
    if (lzma_stream_decoder(&z_, kMaxXzBytes, 0) != LZMA_OK) base::fail("{}: liblzma cannot start", name_);
  }
  lzma_stream z_ = LZMA_STREAM_INIT;
  bool at_end_ = false;  // of a stream
};

class ZstdStream final : public Decoder {
 public:
  ZstdStream(std::unique_ptr<ByteStream> source, std::string name)
      : Decoder(std::move(source), std::move(name)), z_(ZSTD_createDStream(), &ZSTD_freeDStream) {
    if (!z_ || ZSTD_isError(ZSTD_DCtx_setParameter(z_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog)))
      base::fail("{}: zstd cannot start", name_);
  }

  std::size_t read(std::span<char> out) override {
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    while (to.pos == 0) {
      if (at_end_ && !another("zstd", 0, begins_frame)) break;
      const auto in = input();
      if (in.empty() && flushed_) truncated();
      ZSTD_inBuffer from{in.data(), in.size(), 0};
      const std::size_t status = ZSTD_decompressStream(z_.get(), &to, &from);
      if (ZSTD_isError(status)) fail_for(ZSTD_getErrorCode(status));
      consume(from.pos);
      at_end_ = status == 0;
      flushed_ = to.pos < to.size;  // nothing more comes out without more input
    }
    return to.pos;
  }

 private:
  // Of the magic numbers of frames and of frames to skip.
  static bool begins_frame(unsigned char c) { return c == 0x28 || (c & 0xf0) == 0x50; }
  [[noreturn]] void fail_for(ZSTD_ErrorCode code) const {
    if (code == ZSTD_error_frameParameter_windowTooLarge) too_large("zstd -dc --long=31");
    if (code == ZSTD_error_memory_allocation) base::fail("{}: not enough memory to decompress", name_);
    damaged("zstd");
  }
  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> z_;
  bool at_end_ = false;  // of a frame
  bool flushed_ = true;
};

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

struct Compression {
  std::string_view extension, magic;
  std::unique_ptr<ByteStream> (*open)(std::unique_ptr<ByteStream> source, const std::string& name);
};
template <class Stream>
std::unique_ptr<ByteStream> make(std::unique_ptr<ByteStream> source, const std::string& name) {
  return std::make_unique<Stream>(std::move(source), name);
}
constexpr std::array<Compression, 3> kCompressions = {{{".gz", "\x1f\x8b", &make<GzipStream>},
                                                       {".xz",
                                                        "\xfd"
                                                        "7zXZ",
                                                        &make<XzStream>},
                                                       {".zst", "\x28\xb5\x2f\xfd", &make<ZstdStream>}}};

const Compression* by_extension(const std::filesystem::path& path) {
  const auto extension = lower(path.extension().string());
  const auto found = std::ranges::find(kCompressions, extension, &Compression::extension);
  return found == kCompressions.end() ? nullptr : &*found;
}

std::unique_ptr<ByteStream> decode(std::unique_ptr<ByteStream> source, const std::string& name) {
  if (const auto* compression = by_extension(name)) return compression->open(std::move(source), name);
  return source;
}

std::unique_ptr<ByteStream> decode_by_content(std::unique_ptr<ByteStream> source, const std::string& name) {
  auto peek = std::make_unique<PeekStream>(std::move(source));
  const auto found = std::ranges::find_if(
      kCompressions, [&](const auto& compression) { return peek->head().starts_with(compression.magic); });
  return found == kCompressions.end() ? std::move(peek) : found->open(std::move(peek), name);
}

}  // namespace

bool is_pipe(const std::filesystem::path& path) {
  if (path == "-") return true;
  // Standard input by its other names, whatever it was redirected from.
  if (path == "/dev/stdin" || path.native().starts_with("/dev/fd/")) return true;
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
         !std::filesystem::is_directory(status);
}

std::unique_ptr<ByteStream> open_stream(const std::filesystem::path& path) {
  auto file = std::make_unique<FileStream>(path);
  const auto name = path == "-" ? "standard input" : path.string();
  if (is_pipe(path) && by_extension(path) == nullptr) return decode_by_content(std::move(file), name);
  return decode(std::move(file), name);
}

std::unique_ptr<ByteStream> open_stream(std::span<const std::byte> bytes, const std::string& name) {
  return decode(std::make_unique<MemoryStream>(bytes), name);
}

std::string inner_extension(const std::filesystem::path& path) {
  return lower((by_extension(path) != nullptr ? path.stem() : path).extension().string());
}

}  // namespace fairway::data
