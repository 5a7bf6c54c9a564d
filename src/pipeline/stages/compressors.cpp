#include "fairway/pipeline/stages/compressors.h"

#include "fairway/base/error.h"

#include <lzma.h>
#include <unistd.h>
#include <zdict.h>
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
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

/// One of the yardsticks: writes its name and note, and the bytes that it needs.
using Compressor = std::function<void(CompressorResult&)>;

/// A compressor at its highest level takes up to about 800 MB for a text that fills its window.
bool all_fit_memory(std::size_t compressors) {
  constexpr double each = 800e6;
  const double free =
      static_cast<double>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return free > each * static_cast<double>(compressors);
}

}  // namespace

std::vector<CompressorResult> compress_baselines(std::string_view text, std::string_view training_text,
                                                 base::ThreadPool& pool) {
  if (text.empty()) return {};
  const bool cut = training_text.size() > most_training_text;
  training_text = training_text.substr(0, most_training_text);
  const std::string which =
      cut ? fmt::format("first {} bytes of the training text", training_text.size()) : "training text";
  std::vector<Compressor> compressors = {[&](CompressorResult& r) {
                                           r.name = "xz -9e";
                                           r.bytes = xz_bytes(text);
                                         },
                                         [&](CompressorResult& r) {
                                           r.name = "zstd -22 --ultra";
                                           r.bytes = zstd_bytes(text, {}, {});
                                         }};
  if (!training_text.empty()) {
    compressors.push_back([&](CompressorResult& r) {
      const auto dictionary = train_dictionary(training_text);
      if (dictionary.empty()) return;
      r.name = "zstd -22 --ultra, trained dictionary";
      r.bytes = zstd_bytes(text, dictionary, {});
      r.note = fmt::format("dictionary of {} bytes trained on the {}", dictionary.size(), which);
    });
    compressors.push_back([&](CompressorResult& r) {
      r.name = "zstd -22 --ultra, training text as prefix";
      r.bytes = zstd_bytes(text, {}, training_text);
      r.note = cut ? fmt::format("the decoder needs the {}", which)
                   : fmt::format("the decoder needs the {} bytes of training text", training_text.size());
    });
  }
  std::vector<CompressorResult> results(compressors.size());
  const auto run = [&](std::int64_t i) {
    auto& result = results[static_cast<std::size_t>(i)];
    compressors[static_cast<std::size_t>(i)](result);
    result.bits_per_byte = 8.0 * static_cast<double>(result.bytes) / static_cast<double>(text.size());
  };
  const auto count = static_cast<std::int64_t>(compressors.size());
  if (all_fit_memory(compressors.size())) {
    pool.run(count, run);
  } else {
    for (std::int64_t i = 0; i < count; ++i) run(i);
  }
  std::erase_if(results, [](const CompressorResult& r) { return r.name.empty(); });
  return results;
}

}  // namespace fairway::pipeline
