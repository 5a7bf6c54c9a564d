// libFuzzer: safetensors files from arbitrary bytes. Only base::Error may come out.

#include <span>

#include "fairway/artifact/safetensors.h"
#include "fairway/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace fairway;
  artifact::ReadLimits limits;
  limits.max_json = 1 << 20;
  try {
    const auto file = artifact::SafeTensors::parse(std::as_bytes(std::span(data, size)), "fuzz", limits);
    for (const auto& t : file.tensors())
      if (file.floats(t.name).size() != static_cast<std::size_t>(t.elements())) __builtin_trap();
  } catch (const base::Error&) {
  }
  return 0;
}
