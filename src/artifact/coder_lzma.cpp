#include <lzma.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "coder.h"
#include "fairway/base/error.h"

namespace fairway::artifact {
namespace {

constexpr int kHeaderBytes = 13;
constexpr std::uint32_t kMaxDictionary = 64u << 20;    // of preset 9
constexpr std::uint64_t kDecoderMemory = 66ull << 20;  // the dictionary and liblzma's own state
constexpr std::size_t kUncompressedSizeAt = 5;         // behind properties and dictionary size

/// A coder of liblzma that ends with its scope.
struct Stream {
  lzma_stream s = LZMA_STREAM_INIT;
  Stream(std::span<const std::byte> in, std::span<std::byte> out) {
    s.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
    s.avail_in = in.size();
    s.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    s.avail_out = out.size();
  }
  ~Stream() { lzma_end(&s); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

}  // namespace

std::vector<std::byte> lzma_compress(std::span<const std::byte> raw, int level) {
  lzma_options_lzma options;
  const auto preset = static_cast<std::uint32_t>(level) | (level == 9 ? LZMA_PRESET_EXTREME : 0u);
  base::check(!lzma_lzma_preset(&options, preset), "lzma preset {}", level);
  // Values of a row are as good as independent: contexts of literals and positions only thin the statistics.
  options.lc = options.lp = options.pb = 0;
  options.dict_size = std::clamp<std::uint32_t>(
      static_cast<std::uint32_t>(std::bit_ceil(std::min<std::size_t>(raw.size(), kMaxDictionary))),
      LZMA_DICT_SIZE_MIN, kMaxDictionary);
  std::vector<std::byte> out(raw.size() + raw.size() / 8 + 1024);  // a literal costs at most 9 bits and a bit
  Stream stream(raw, out);
  auto status = lzma_alone_encoder(&stream.s, &options);
  if (status == LZMA_OK) status = lzma_code(&stream.s, LZMA_FINISH);
  if (status != LZMA_STREAM_END)
    base::fail("lzma could not compress {} bytes: error {}", raw.size(), static_cast<int>(status));
  out.resize(out.size() - stream.s.avail_out);
  return out;
}

void lzma_decompress(std::span<const std::byte> stored, std::span<std::byte> raw, std::string_view what) {
  // The size field must say "unknown, up to the end marker", as our encoder writes it: the marker is what
  // tells a stream that ends from one that is cut off.
  std::uint64_t size = 0;
  if (stored.size() >= kHeaderBytes) std::memcpy(&size, stored.data() + kUncompressedSizeAt, sizeof size);
  if (size != UINT64_MAX) base::fail_input("{}: not an lzma stream with an end marker", what);
  std::byte beyond{};  // liblzma stops at the marker only with room left, so that one byte too many shows
  Stream stream(stored, raw);
  if (lzma_alone_decoder(&stream.s, kDecoderMemory) != LZMA_OK) base::fail("no memory for the lzma decoder");
  auto status = LZMA_OK;
  if (!raw.empty()) status = lzma_code(&stream.s, LZMA_RUN);
  if (status == LZMA_OK && stream.s.avail_out == 0) {
    stream.s.next_out = reinterpret_cast<std::uint8_t*>(&beyond);
    stream.s.avail_out = 1;
    status = lzma_code(&stream.s, LZMA_FINISH);
    if (stream.s.avail_out == 0)
      base::fail_input("{}: the lzma stream holds more than the {} bytes declared", what, raw.size());
  }
  switch (status) {
    case LZMA_STREAM_END:
      break;
    case LZMA_OK:
    case LZMA_BUF_ERROR:
      base::fail_input("{}: the lzma stream is cut off", what);
    case LZMA_MEMLIMIT_ERROR:
      base::fail_input("{}: the lzma stream wants a dictionary of more than {} bytes", what, kMaxDictionary);
    case LZMA_MEM_ERROR:
      base::fail("no memory for the lzma decoder");
    default:
      base::fail_input("{}: bad lzma stream (error {})", what, static_cast<int>(status));
  }
  if (stream.s.avail_in != 0) base::fail_input("{}: not exactly one lzma stream", what);
  if (stream.s.total_out != raw.size())
    base::fail_input("{}: the lzma stream holds {} bytes, {} declared", what, stream.s.total_out, raw.size());
}

}  // namespace fairway::artifact
