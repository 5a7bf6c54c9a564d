// Shard files and their manifest: any bytes are read, or refused with an input error.
#include <cstdint>
#include <string>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/data/build.h"
#include "fairway/data/shard.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fairway;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  try {
    const std::vector<std::byte> aligned(bytes, bytes + size);
    const auto tokens = data::parse_shard(aligned, "fuzz.bin");
    data::check_token_range(tokens, 1024, "fuzz.bin");
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::input) throw;
  }
  try {
    data::parse_manifest(std::string(reinterpret_cast<const char*>(data), size), "manifest.json");
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::input) throw;
  }
  return 0;
}
