#pragma once
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/base/random.h"
#include "fairway/optim/training.h"

namespace fairway::optim {

/// Standard normal numbers times `scale`, the same for the same purpose.
inline std::vector<float> normals(std::string_view purpose, std::size_t count, double scale = 1.0) {
  const base::Random random(20, purpose);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(scale * random.normal(i));
  return values;
}

inline tensor::View flat_view(std::vector<float>& values) {
  return {values.data(), {tensor::DType::f32, {static_cast<std::int64_t>(values.size())}}};
}

inline std::unique_ptr<Optimizer> optimizer_of(const OptimizerConfig& config, std::vector<float>& values,
                                               std::vector<float>& gradients, base::ThreadPool& pool) {
  return make_optimizer(config, flat_view(values), flat_view(gradients), &pool, nullptr);
}

/// One group that is a single range, or several, of the flat buffers.
inline OptimizerConfig one_group(const UpdateRule& rule, std::vector<ParamRange> parameters,
                                 tensor::DType storage = tensor::DType::f32, double grad_clip = 0) {
  return {.groups = {{rule, 0, storage, std::move(parameters)}}, .grad_clip = grad_clip};
}

inline StepValues at_rate(double lr) { return {.lr = {lr}}; }

/// Rounds what a group stores in bf16, as a start or a load has to.
inline void round_to_storage(const OptimizerConfig& config, std::vector<float>& values) {
  for (const auto& group : config.groups)
    if (group.storage == tensor::DType::bf16)
      for (const auto& p : group.parameters)
        for (float& v : p.range.of(std::span(values))) v = tensor::round_to_bf16(v);
}

using State = std::map<std::string, std::vector<std::byte>>;
inline State state_of(Optimizer& optimizer) {
  State state;
  for (const auto& piece : optimizer.save()) state[piece.name].assign(piece.bytes.begin(), piece.bytes.end());
  return state;
}
inline void set_state(Optimizer& optimizer, const State& state) {
  optimizer.restore([&](std::string_view name, std::size_t) -> std::span<const std::byte> {
    return state.at(std::string(name));
  });
}
inline std::vector<float> floats_of(const std::vector<std::byte>& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace fairway::optim
