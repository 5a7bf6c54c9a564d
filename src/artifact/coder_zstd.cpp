#include <zstd.h>

#include <array>
#include <memory>
#include <utility>

#include "coder.h"
#include "fairway/base/error.h"

namespace fairway::artifact {

namespace {

using Setting = std::pair<ZSTD_cParameter, int>;

/// Integers of trained weights look like noise whose width changes from row to row: short matches, and those
/// from far away, cost more than the literals they replace, and the library's high levels look for just
/// these. Measured on 27 M int6 weights: 15.35 MB in 1.3 s, against 15.94 MB in 33 s at level 22
/// (bench/RESULTS.md).
constexpr std::array<Setting, 5> for_numbers{{{ZSTD_c_strategy, ZSTD_btopt},
                                              {ZSTD_c_minMatch, 7},
                                              {ZSTD_c_windowLog, 17},
                                              {ZSTD_c_searchLog, 9},
                                              {ZSTD_c_targetLength, 999}}};
constexpr int thorough_level = 10;  ///< from here on both ways are tried

std::vector<std::byte> compress(std::span<const std::byte> raw, int level,
                                std::span<const Setting> settings) {
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(), &ZSTD_freeCCtx);
  if (!context) base::fail("no memory for the zstd compressor");
  const auto set = [&](ZSTD_cParameter parameter, int value) {
    const auto status = ZSTD_CCtx_setParameter(context.get(), parameter, value);
    base::check(!ZSTD_isError(status), "zstd parameter {}: {}", static_cast<int>(parameter),
                ZSTD_getErrorName(status));
  };
  set(ZSTD_c_compressionLevel, level);
  for (const auto& [parameter, value] : settings) set(parameter, value);
  std::vector<std::byte> out(ZSTD_compressBound(raw.size()));
  const std::size_t size = ZSTD_compress2(context.get(), out.data(), out.size(), raw.data(), raw.size());
  if (ZSTD_isError(size))
    base::fail("zstd could not compress {} bytes: {}", raw.size(), ZSTD_getErrorName(size));
  out.resize(size);
  return out;
}

}  // namespace

std::vector<std::byte> zstd_compress(std::span<const std::byte> raw, int level) {
  auto best = compress(raw, level, {});
  if (level < thorough_level) return best;
  auto other = compress(raw, level, for_numbers);
  return other.size() < best.size() ? other : best;
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
