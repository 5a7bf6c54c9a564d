#include "fairway/exec/calibration.h"

namespace fairway::exec {

Hessians collect_hessians(ModelRunner& runner, int rows, int batches,
                          const std::function<void(int, std::span<std::int32_t>)>& fill) {
  auto& program = runner.add({.mode = model::Mode::calibrate, .rows = rows});
  runner.allocate();
  runner.prepare();
  const auto& layout = runner.weights().layout();
  Hessians result;
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(program.view("tokens").elements()));
  std::vector<float> of_batch;
  for (int i = 0; i < batches; ++i) {
    runner.engine().throw_if_stopped();
    fill(i, tokens);
    runner.write_tokens(program, tokens);
    program.run();
    for (const auto& matrix : layout.multiplied()) {
      const auto name = model::hessian_of(matrix);
      of_batch.resize(static_cast<std::size_t>(program.view(name).elements()));
      program.read<float>(name, of_batch);
      auto& sum = result[matrix];
      sum.resize(of_batch.size());
      for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += of_batch[k] / static_cast<float>(batches);
    }
  }
  for (const auto& matrix : layout.multiplied()) {
    const auto parts = layout.parts(matrix);
    if (parts.size() == 1 && parts.front() == matrix) continue;
    for (const auto& part : parts) result[part] = result[matrix];
    result.erase(matrix);
  }
  return result;
}

}  // namespace fairway::exec
