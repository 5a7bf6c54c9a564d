// Recipe text from anywhere: an error or a recipe that is written and read back the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fairway/base/error.h"
#include "fairway/pipeline/recipe/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fairway;
  try {
    const auto loaded = pipeline::parse_recipe({reinterpret_cast<const char*>(data), size}, "fuzz.toml", "/");
    const auto again = pipeline::parse_recipe(pipeline::to_toml(loaded), "again.toml", "/");
    if (!(again.recipe == loaded.recipe)) std::abort();
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::input) std::abort();
  }
  return 0;
}
