#include "byte_stream.h"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "fairway/base/error.h"

namespace fairway::data {
namespace {

using base::fail_input;

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;
// Decoder memory at most: .xz -9e needs 65 MiB, .zst --ultra --long=27 needs 128 MiB.
constexpr std::uint64_t kMaxDecoderBytes = std::uint64_t{256} << 20;
constexpr int kMaxZstdWindowLog = 27;

class FileStream final : public ByteStream {
 public:
  explicit FileStream(const std::filesystem::path& path)
      : path_(path), file_(std::fopen(path.c_str(), "rb"), &std::fclose) {
    if (!file_) fail_input("{}: cannot be read ({})", path.string(), std::strerror(errno));
    if (std::filesystem::is_directory(path))
      fail_input("{}: is a folder; give files or a pattern", path.string());
  }
  std::size_t read(std::span<char> out) override {
    const std::size_t got = std::fread(out.data(), 1, out.size(), file_.get());
    if (got < out.size() && std::ferror(file_.get()))
      base::fail("{}: read error ({})", path_.string(), std::strerror(errno));
    return got;
  }

 private:
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

// The part the three decoders share: an input buffer that is refilled from below.
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
  [[noreturn]] void truncated() const {
    fail_input("{}: compressed data ends too early; the file is truncated", name_);
  }
  [[noreturn]] void damaged(std::string_view format) const {
    fail_input("{}: damaged {} data", name_, format);
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
      const auto in = input();
      if (in.empty()) {
        if (!at_member_end_) truncated();
        break;
      }
      if (at_member_end_ && members_ > 0) inflateReset(&z_);
      at_member_end_ = false;
      z_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
      z_.avail_in = static_cast<uInt>(in.size());
      const int status = inflate(&z_, Z_NO_FLUSH);
      consume(in.size() - z_.avail_in);
      if (status == Z_STREAM_END) {
        at_member_end_ = true;
        ++members_;
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        damaged("gzip");
      }
    }
    return out.size() - z_.avail_out;
  }

 private:
  z_stream z_{};
  bool at_member_end_ = false;
  std::uint64_t members_ = 0;
};

class XzStream final : public Decoder {
 public:
  XzStream(std::unique_ptr<ByteStream> source, std::string name)
      : Decoder(std::move(source), std::move(name)) {
    if (lzma_stream_decoder(&z_, kMaxDecoderBytes, LZMA_CONCATENATED) != LZMA_OK)
      base::fail("{}: liblzma cannot start", name_);
  }
  ~XzStream() override { lzma_end(&z_); }
  XzStream(const XzStream&) = delete;
  XzStream& operator=(const XzStream&) = delete;

  std::size_t read(std::span<char> out) override {
    z_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    z_.avail_out = out.size();
    while (!done_ && z_.avail_out == out.size()) {
      const auto in = input();
      z_.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
      z_.avail_in = in.size();
      const lzma_ret status = lzma_code(&z_, in.empty() ? LZMA_FINISH : LZMA_RUN);
      consume(in.size() - z_.avail_in);
      if (status == LZMA_STREAM_END)
        done_ = true;
      else if (status == LZMA_MEMLIMIT_ERROR)
        fail_input("{}: needs more than {} MiB to decompress", name_, kMaxDecoderBytes >> 20);
      else if (status == LZMA_BUF_ERROR)
        truncated();
      else if (status != LZMA_OK)
        damaged("xz");
    }
    return out.size() - z_.avail_out;
  }

 private:
  lzma_stream z_ = LZMA_STREAM_INIT;
  bool done_ = false;
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
      const auto in = input();
      if (in.empty() && (!frame_open_ || flushed_)) {
        if (!frame_open_ && any_) break;
        truncated();
      }
      ZSTD_inBuffer from{in.data(), in.size(), 0};
      const std::size_t status = ZSTD_decompressStream(z_.get(), &to, &from);
      if (ZSTD_isError(status)) damaged("zstd");
      consume(from.pos);
      any_ = true;
      frame_open_ = status != 0;
      flushed_ = to.pos < to.size;  // nothing more comes out without more input
    }
    return to.pos;
  }

 private:
  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> z_;
  bool frame_open_ = false, flushed_ = false, any_ = false;
};

std::unique_ptr<ByteStream> decode(std::unique_ptr<ByteStream> source, const std::filesystem::path& name) {
  const std::string extension = name.extension().string();
  if (extension == ".gz") return std::make_unique<GzipStream>(std::move(source), name.string());
  if (extension == ".xz") return std::make_unique<XzStream>(std::move(source), name.string());
  if (extension == ".zst") return std::make_unique<ZstdStream>(std::move(source), name.string());
  return source;
}

}  // namespace

std::unique_ptr<ByteStream> open_stream(const std::filesystem::path& path) {
  return decode(std::make_unique<FileStream>(path), path);
}

std::unique_ptr<ByteStream> open_stream(std::span<const std::byte> bytes, const std::string& name) {
  return decode(std::make_unique<MemoryStream>(bytes), name);
}

std::string inner_extension(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  const bool compressed = extension == ".gz" || extension == ".xz" || extension == ".zst";
  return compressed ? path.stem().extension().string() : extension;
}

}  // namespace fairway::data
