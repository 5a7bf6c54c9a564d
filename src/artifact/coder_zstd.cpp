#include <zstd.h>

#include <memory>

#include "coder.h"
#include "fairway/base/error.h"

namespace fairway::artifact {

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

void zstd_decompress(std::span<const std::byte> stored, std::span<std::byte> raw, std::string_view what) {
  if (ZSTD_findFrameCompressedSize(stored.data(), stored.size()) != stored.size())
    base::fail_input("{}: not exactly one zstd frame", what);
  if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != raw.size())
    base::fail_input("{}: the zstd frame does not declare {} bytes", what, raw.size());
  const std::size_t done = ZSTD_decompress(raw.data(), raw.size(), stored.data(), stored.size());
  if (ZSTD_isError(done)) base::fail_input("{}: bad zstd frame ({})", what, ZSTD_getErrorName(done));
  if (done != raw.size())
    base::fail_input("{}: the zstd frame holds {} bytes, {} declared", what, done, raw.size());
}

}  // namespace fairway::artifact
