#pragma once
// Compressed bytes, and what the reader makes of bytes.

#include <gtest/gtest.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/data/documents.h"

namespace fairway::testing {

inline std::string gzip(std::string_view text) {
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&z, text.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

inline std::string xz(std::string_view text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t used = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr,
                                    reinterpret_cast<const std::uint8_t*>(text.data()), text.size(),
                                    reinterpret_cast<std::uint8_t*>(out.data()), &used, out.size()),
            LZMA_OK);
  out.resize(used);
  return out;
}

inline std::string zst(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

struct Format {
  std::string extension;
  std::function<std::string(std::string_view)> compress;
};
inline void PrintTo(const Format& f, std::ostream* out) { *out << f.extension; }
inline const std::vector<Format>& formats() {
  static const std::vector<Format> all = {{".gz", gzip}, {".xz", xz}, {".zst", zst}};
  return all;
}

inline std::vector<std::string> texts(std::string_view bytes, const std::string& name,
                                      const data::ReaderOptions& options = {}) {
  data::DocumentReader reader(std::as_bytes(std::span(bytes.data(), bytes.size())), name, options);
  std::vector<std::string> all;
  for (data::Document document; reader.next(document);) all.push_back(document.text);
  return all;
}

inline data::ReaderOptions split(data::SplitOn how) {
  data::ReaderOptions options;
  options.split_on = how;
  return options;
}

}  // namespace fairway::testing
