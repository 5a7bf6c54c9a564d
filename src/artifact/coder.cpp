#include "coder.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "container.h"
#include "fairway/base/error.h"

namespace fairway::artifact {
namespace {

constexpr int kMaxLevel = 22;  // of any coder

void copy(std::span<const std::byte> stored, std::span<std::byte> raw, std::string_view what) {
  if (raw.size() != stored.size())
    base::fail_input("{}: {} bytes stored, {} declared", what, stored.size(), raw.size());
  if (!raw.empty()) std::memcpy(raw.data(), stored.data(), stored.size());
}

// Expansion. zstd: a block of 4 bytes stands for at most 128 KiB (RFC 8878, section 3.1.1.2). lzma: a match
// of 273 bytes costs at least some 14 binary decisions of no less than 2^-5.4 bits. brotli: one copy command
// reaches 2^24 bytes, so that its bound says little; decoding stops at the declared size all the same.
constexpr std::array<CoderInfo, 4> kCoders{{
    {"raw", 0, 0, 0, 1, nullptr, &copy},
    {"zstd", 0, 1, 22, 1u << 15, &zstd_compress, &zstd_decompress},
    {"brotli", kFeatureBrotli, 0, 11, 1u << 24, &brotli_compress, &brotli_decompress},
    {"lzma", kFeatureLzma, 0, 9, 1u << 15, &lzma_compress, &lzma_decompress},
}};

}  // namespace

const CoderInfo* coder_info(Coder coder) {
  const auto index = static_cast<std::size_t>(coder);
  return index < kCoders.size() ? &kCoders[index] : nullptr;
}

std::string_view coder_name(Coder coder) {
  if (coder == Coder::smallest) return "smallest";
  const auto* info = coder_info(coder);
  return info ? info->name : "unknown";
}

std::vector<Coder> all_coders() {
  std::vector<Coder> coders;
  for (std::size_t i = 0; i < kCoders.size(); ++i) coders.push_back(static_cast<Coder>(i));
  return coders;
}

int highest_level(Coder coder) {
  if (coder == Coder::smallest) return kMaxLevel;
  const auto* info = coder_info(coder);
  return info ? info->max_level : 0;
}

RawBytes::RawBytes(std::uint64_t size) : size_(static_cast<std::size_t>(size)) {
  try {
    data_ = std::make_unique_for_overwrite<std::byte[]>(size_);
  } catch (const std::bad_alloc&) {
    base::fail("no memory for {} bytes of decoded data", size);
  }
}

std::vector<std::byte> encode(Coder coder, std::span<const std::byte> raw, int level) {
  const auto* info = coder_info(coder);
  base::check(info != nullptr, "coder {}", static_cast<int>(coder));
  if (level < info->min_level || level > kMaxLevel)
    base::fail_input("{} level {}: it must be between {} and {}", info->name, level, info->min_level,
                     kMaxLevel);
  if (!info->compress) return {raw.begin(), raw.end()};
  return info->compress(raw, std::min(level, info->max_level));
}

std::vector<Coder> coders_of(Coder choice) {
  if (choice != Coder::smallest) return {choice};
  auto coders = all_coders();
  std::erase(coders, Coder::raw);
  return coders;
}

Coded encode_smaller(Coder choice, std::span<const std::byte> raw, int level) {
  Coded best{Coder::raw, {raw.begin(), raw.end()}};
  for (const Coder coder : coders_of(choice)) {
    auto bytes = encode(coder, raw, level);
    if (bytes.size() < best.bytes.size()) best = {coder, std::move(bytes)};
  }
  return best;
}

RawBytes decode(Coder coder, std::span<const std::byte> stored, std::uint64_t raw_bytes,
                std::string_view what) {
  const auto* info = coder_info(coder);
  if (!info)
    base::fail_input("{}: coder {} is not in this build; use the version of Fairway that wrote the file",
                     what, static_cast<int>(coder));
  if (raw_bytes / info->max_expansion > stored.size())
    base::fail_input("{}: {} bytes cannot come out of {} compressed ones", what, raw_bytes, stored.size());
  RawBytes raw(raw_bytes);
  info->decompress(stored, raw.span(), what);
  return raw;
}

}  // namespace fairway::artifact
