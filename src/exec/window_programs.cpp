#include "fairway/exec/window_programs.h"

#include "fairway/exec/micro_batch.h"

#include <algorithm>

namespace fairway::exec {

WindowPrograms::WindowPrograms(ModelRunner& runner, int rows)
    : runner_(runner),
      rows_(rows > 0 ? rows : rows_for(full_rate_tokens(runner.engine().device()), runner.config().window)) {}

graph::Program& WindowPrograms::add(int length) {
  auto& program = programs_[length];
  const int last = length < runner_.config().window ? length : 0;
  if (!program) program = &runner_.add({.mode = model::Mode::score, .rows = rows_, .last = last});
  return *program;
}

void WindowPrograms::score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets,
                           int score_last, std::span<float> nll) {
  auto& program = *programs_.at(score_last);
  runner_.prepare();
  runner_.write_tokens(program, inputs);
  program.write("targets", targets);
  program.run();
  program.read("nll", nll);
}

score::WindowPlan plan_windows(const model::ModelConfig& config, const score::TokenView& tokens, int stride,
                               score::Tail tail) {
  const int lead = config.memory_tokens;
  if (stride > 0)
    return score::WindowPlan::sliding(tokens.size(), config.window, std::min(stride, config.window - lead),
                                      tail, lead);
  if (config.documents && lead == 0 && tail == score::Tail::clean)
    return score::WindowPlan::documents(tokens.size(), config.window,
                                        [&](std::int64_t i) { return tokens[i] == config.bos_id; });
  return score::WindowPlan::plain(tokens.size(), config.window, tail, lead);
}

}  // namespace fairway::exec
