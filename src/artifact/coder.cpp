#include "coder.h"

#include <zstd.h>

#include <array>
#include <cstring>
#include <new>

#include "fairway/base/error.h"

namespace fairway::artifact {
namespace {

constexpr std::array<std::string_view, 4> kCoders{"raw", "zstd", "brotli", "lzma"};

// A zstd block of 4 bytes stands for at most 128 KiB (RFC 8878, section 3.1.1.2): no frame expands further.
constexpr std::uint64_t kMaxExpansion = 1u << 15;

void decode_zstd(std::span<const std::byte> stored, std::span<std::byte> raw, std::string_view what) {
  if (ZSTD_findFrameCompressedSize(stored.data(), stored.size()) != stored.size())
    base::fail_input("{}: not exactly one zstd frame", what);
  if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != raw.size())
    base::fail_input("{}: the zstd frame does not declare {} bytes", what, raw.size());
  const std::size_t done = ZSTD_decompress(raw.data(), raw.size(), stored.data(), stored.size());
  if (ZSTD_isError(done)) base::fail_input("{}: bad zstd frame ({})", what, ZSTD_getErrorName(done));
  if (done != raw.size())
    base::fail_input("{}: the zstd frame holds {} bytes, {} declared", what, done, raw.size());
}

}  // namespace

std::string_view coder_name(Coder coder) {
  const auto index = static_cast<std::size_t>(coder);
  return index < kCoders.size() ? kCoders[index] : "unknown";
}

std::optional<Coder> parse_coder(std::string_view name) {
  for (std::size_t i = 0; i < kCoders.size(); ++i)
    if (kCoders[i] == name) return static_cast<Coder>(i);
  return std::nullopt;
}

RawBytes::RawBytes(std::uint64_t size) : size_(static_cast<std::size_t>(size)) {
  try {
    data_ = std::make_unique_for_overwrite<std::byte[]>(size_);
  } catch (const std::bad_alloc&) {
    base::fail("no memory for {} bytes of decoded data", size);
  }
}

std::vector<std::byte> zstd_compress(std::span<const std::byte> raw, int level) {
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(), &ZSTD_freeCCtx);
  if (!context) base::fail("no memory for the zstd compressor");
  std::vector<std::byte> out(ZSTD_compressBound(raw.size()));
  const std::size_t size =
      ZSTD_compressCCtx(context.get(), out.data(), out.size(), raw.data(), raw.size(), level);
  if (ZSTD_isError(size))
    base::fail("zstd could not compress {} bytes: {}", raw.size(), ZSTD_getErrorName(size));
  out.resize(size);
  return out;
}

RawBytes decode(Coder coder, std::span<const std::byte> stored, std::uint64_t raw_bytes,
                std::string_view what) {
  if (coder == Coder::raw) {
    if (raw_bytes != stored.size())
      base::fail_input("{}: {} bytes stored, {} declared", what, stored.size(), raw_bytes);
    RawBytes raw(raw_bytes);
    if (raw_bytes > 0) std::memcpy(raw.span().data(), stored.data(), stored.size());
    return raw;
  }
  if (coder != Coder::zstd)
    base::fail_input(
        "{}: coder {} ('{}') is not in this build; use the version of Fairway that wrote the file", what,
        static_cast<int>(coder), coder_name(coder));
  if (raw_bytes / kMaxExpansion > stored.size())
    base::fail_input("{}: {} bytes cannot come out of {} compressed ones", what, raw_bytes, stored.size());
  RawBytes raw(raw_bytes);
  decode_zstd(stored, raw.span(), what);
  return raw;
}

}  // namespace fairway::artifact
