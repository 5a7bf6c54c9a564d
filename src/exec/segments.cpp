#include "fairway/exec/segments.h"

#include "fairway/base/error.h"

namespace fairway::exec {

void segment_starts(std::span<const std::int32_t> tokens, std::int64_t length, std::int32_t bos,
                    std::int64_t longest, std::span<std::int32_t> starts) {
  base::check(tokens.size() == starts.size() && length > 0 && longest > 0, "{} tokens, {} starts, rows of {}",
              tokens.size(), starts.size(), length);
  std::int64_t start = 0;
  for (std::int64_t i = 0; i < std::ssize(tokens); ++i) {
    const auto position = i % length;
    const bool begins = position == 0 || tokens[static_cast<std::size_t>(i)] == bos;
    if (begins || position - start == longest) start = position;
    starts[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(start);
  }
}

void fill_segments(const model::ModelConfig& config, const graph::Program& program,
                   std::span<const std::int32_t> tokens, std::span<std::int32_t> starts,
                   std::int64_t longest) {
  segment_starts(tokens, program.view("segments").shape()[1], config.bos_id,
                 longest > 0 ? longest : config.window, starts);
}

}  // namespace fairway::exec
