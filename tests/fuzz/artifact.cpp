// libFuzzer: artifacts, checkpoints and the size ledger from arbitrary bytes. Only base::Error may come out.
// Checksums are not verified, or nothing behind them would ever be reached.

#include <cstring>
#include <memory>
#include <new>

#include "fairway/artifact/artifact.h"
#include "fairway/artifact/checkpoint.h"
#include "fairway/base/error.h"

namespace {

using namespace fairway;

artifact::ReadLimits limits() {
  artifact::ReadLimits limits;
  limits.max_decoded = 1 << 20;
  limits.max_json = 1 << 16;
  limits.max_tokenizer = 1 << 16;
  limits.verify_checksums = false;
  return limits;
}

template <class Body>
void attempt(Body&& body) {
  try {
    body();
  } catch (const base::Error&) {
  }
}

}  // namespace

// The declared file size stands at byte 32 of the header; setting it right saves the fuzzer from guessing it.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t(64)); }
  };
  std::unique_ptr<std::byte, Free> copy(
      static_cast<std::byte*>(::operator new(size + 1, std::align_val_t(64))));
  if (size > 0) std::memcpy(copy.get(), data, size);
  const auto file_bytes = static_cast<std::uint64_t>(size);
  if (size >= 40) std::memcpy(copy.get() + 32, &file_bytes, sizeof file_bytes);
  const std::span<const std::byte> bytes(copy.get(), size);
  attempt([&] { artifact::decode_artifact(bytes, "fuzz", limits()); });
  attempt([&] { artifact::size_ledger(bytes, "fuzz", {}, limits()); });
  attempt([&] { artifact::Checkpoint::parse(bytes, "fuzz", limits()); });
  return 0;
}
