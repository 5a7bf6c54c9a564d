#include <brotli/decode.h>
#include <brotli/encode.h>

#include <algorithm>
#include <bit>
#include <memory>

#include "coder.h"
#include "fairway/base/error.h"

namespace fairway::artifact {

std::vector<std::byte> brotli_compress(std::span<const std::byte> raw, int level) {
  // A window larger than the data only costs the reader memory.
  const int window = std::clamp(static_cast<int>(std::bit_width(raw.size())), BROTLI_MIN_WINDOW_BITS,
                                BROTLI_MAX_WINDOW_BITS);
  // Its bound holds for windows of up to 2^24 and has a special value for what it cannot express.
  std::size_t size = BrotliEncoderMaxCompressedSize(raw.size());
  if (size == 0) base::fail("brotli cannot compress {} bytes", raw.size());
  std::vector<std::byte> out(size);
  if (!BrotliEncoderCompress(level, window, BROTLI_MODE_GENERIC, raw.size(),
                             reinterpret_cast<const std::uint8_t*>(raw.data()), &size,
                             reinterpret_cast<std::uint8_t*>(out.data())))
    base::fail("brotli could not compress {} bytes", raw.size());
  out.resize(size);
  return out;
}

void brotli_decompress(std::span<const std::byte> stored, std::span<std::byte> raw, std::string_view what) {
  std::unique_ptr<BrotliDecoderState, decltype(&BrotliDecoderDestroyInstance)> state(
      BrotliDecoderCreateInstance(nullptr, nullptr, nullptr), &BrotliDecoderDestroyInstance);
  if (!state) base::fail("no memory for the brotli decoder");
  std::size_t in_left = stored.size(), out_left = raw.size();
  const auto* in = reinterpret_cast<const std::uint8_t*>(stored.data());
  std::uint8_t none = 0;  // the decoder wants an address even where nothing is to come
  auto* out = raw.empty() ? &none : reinterpret_cast<std::uint8_t*>(raw.data());
  const auto result = BrotliDecoderDecompressStream(state.get(), &in_left, &in, &out_left, &out, nullptr);
  if (result == BROTLI_DECODER_RESULT_ERROR)
    base::fail_input("{}: bad brotli stream ({})", what,
                     BrotliDecoderErrorString(BrotliDecoderGetErrorCode(state.get())));
  if (result == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT)
    base::fail_input("{}: the brotli stream holds more than the {} bytes declared", what, raw.size());
  if (result == BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT)
    base::fail_input("{}: the brotli stream is cut off", what);
  if (in_left != 0) base::fail_input("{}: not exactly one brotli stream", what);
  if (out_left != 0)
    base::fail_input("{}: the brotli stream holds {} bytes, {} declared", what, raw.size() - out_left,
                     raw.size());
}

}  // namespace fairway::artifact
