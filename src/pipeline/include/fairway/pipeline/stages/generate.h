#pragma once
// Text from a model: the decode program with its key/value state.

#include "fairway/exec/model_runner.h"
#include "fairway/pipeline/stages/model_file.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace fairway::pipeline {

/// A model that reads one token after the other. Keeps keys and values; a full cache is rebuilt from the last
/// half.
class Decoder {
 public:
  /// Adds its programs to `runner`, which must outlive the decoder.
  explicit Decoder(exec::ModelRunner& runner);
  ~Decoder();
  exec::ModelRunner& runner() const;
  void reset();
  /// Reads tokens and returns the soft-capped logits [vocab_size] for the next one; valid until the next
  /// call.
  std::span<const float> feed(std::span<const std::int32_t> tokens);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct GenerateOptions : GenerateConfig {
  std::uint64_t seed = 1337;
  std::function<void(std::string_view)>
      on_text;  ///< called with each part of `Generated::text` as it becomes certain
};

struct Generated {
  std::string text;  ///< without the prompt, to be put right behind it; see text::StreamDecoder
  std::vector<std::int32_t> tokens;
  double tokens_per_second = 0;
};

/// Samples until `tokens` or the next document begins. The same seed gives the same text.
/// `decoder`: of a runner that reads the model's weights.
Generated generate(const OpenModel& model, const GenerateOptions& options, Decoder& decoder);
/// The same with programs of its own.
Generated generate(const OpenModel& model, const GenerateOptions& options, const exec::Engine& engine);

}  // namespace fairway::pipeline
