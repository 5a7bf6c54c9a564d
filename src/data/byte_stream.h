#pragma once
// A file's bytes, decompressed on the way in memory bounded by small buffers and the format's own window.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace fairway::data {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Fills up to `out.size()` bytes; 0 at the end. Throws an input error naming the file when the stream is
  // damaged or ends too early.
  virtual std::size_t read(std::span<char> out) = 0;
};

// What can be read once only and need not tell its kind by its name: "-" (standard input), pipes, devices.
bool is_pipe(const std::filesystem::path& path);

// By the name's last extension, in capitals or not: .gz, .xz, .zst (one or more members or frames each),
// anything else as it is; what comes through a pipe without such a name by its first bytes.
std::unique_ptr<ByteStream> open_stream(const std::filesystem::path& path);
std::unique_ptr<ByteStream> open_stream(std::span<const std::byte> bytes, const std::string& name);

// "a.JSONL.xz" -> ".jsonl"
std::string inner_extension(const std::filesystem::path& path);

}  // namespace fairway::data
