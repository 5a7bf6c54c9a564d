#include "fairway/pipeline/compressors.h"

#include "fairway/base/error.h"

#include <lzma.h>
#include <zdict.h>
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

namespace fairway::pipeline {

namespace {

/// Of a longer training text the compressors learn from the beginning: zstd 22 takes minutes for 100 MB.
constexpr std::size_t most_training_text = 8 << 20;

using ZstdContext = std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)>;

std::uint64_t xz_bytes(std::string_view text) {
  std::vector<std::uint8_t> out(lzma_stream_buffer_bound(text.size()));
  std::size_t size = 0;
  const auto status = lzma_easy_buffer_encode(9 | LZMA_PRESET_EXTREME, LZMA_CHECK_CRC64, nullptr,
                                              reinterpret_cast<const std::uint8_t*>(text.data()), text.size(),
                                              out.data(), &size, out.size());
  base::check(status == LZMA_OK, "lzma error {}", static_cast<int>(status));
  return size;
}

/// `prefix`: text the decoder has too.
std::uint64_t zstd_bytes(std::string_view text, std::string_view dictionary, std::string_view prefix) {
  const ZstdContext context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, 22);
  const int window = std::clamp(static_cast<int>(std::bit_width(text.size() + prefix.size())), 20, 27);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, window);
  if (!dictionary.empty()) ZSTD_CCtx_loadDictionary(context.get(), dictionary.data(), dictionary.size());
  if (!prefix.empty()) ZSTD_CCtx_refPrefix(context.get(), prefix.data(), prefix.size());
  std::vector<char> out(ZSTD_compressBound(text.size()));
  const auto size = ZSTD_compress2(context.get(), out.data(), out.size(), text.data(), text.size());
  base::check(!ZSTD_isError(size), "zstd: {}", ZSTD_getErrorName(size));
  return size;
}

/// What `zstd --train` makes of the text cut into samples; empty when there is too little text.
std::string train_dictionary(std::string_view text) {
  constexpr std::size_t sample = 2048;
  std::vector<std::size_t> sizes;
  for (std::size_t at = 0; at < text.size(); at += sample)
    sizes.push_back(std::min(sample, text.size() - at));
  std::string dictionary(112'640, '\0');  // zstd's own default size
  const auto size = ZDICT_trainFromBuffer(dictionary.data(), dictionary.size(), text.data(), sizes.data(),
                                          static_cast<unsigned>(sizes.size()));
  if (ZDICT_isError(size)) return {};
  dictionary.resize(size);
  return dictionary;
}

}  // namespace

std::vector<CompressorResult> compress_baselines(std::string_view text, std::string_view training_text) {
  std::vector<CompressorResult> results;
  if (text.empty()) return results;
  auto add = [&](std::string name, std::uint64_t bytes, std::string note) {
    results.push_back({std::move(name), bytes,
                       8.0 * static_cast<double>(bytes) / static_cast<double>(text.size()), std::move(note)});
  };
  add("xz -9e", xz_bytes(text), "");
  add("zstd -22 --ultra", zstd_bytes(text, {}, {}), "");
  if (training_text.empty()) return results;
  const bool cut = training_text.size() > most_training_text;
  training_text = training_text.substr(0, most_training_text);
  const std::string which =
      cut ? fmt::format("first {} bytes of the training text", training_text.size()) : "training text";
  if (const auto dictionary = train_dictionary(training_text); !dictionary.empty())
    add("zstd -22 --ultra, trained dictionary", zstd_bytes(text, dictionary, {}),
        fmt::format("dictionary of {} bytes trained on the {}", dictionary.size(), which));
  add("zstd -22 --ultra, training text as prefix", zstd_bytes(text, {}, training_text),
      cut ? fmt::format("the decoder needs the {}", which)
          : fmt::format("the decoder needs the {} bytes of training text", training_text.size()));
  return results;
}

}  // namespace fairway::pipeline
