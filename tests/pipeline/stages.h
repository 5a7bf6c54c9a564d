#pragma once
// A small run of the real pipeline: the demo's text and model family, two layers wide enough for every
// switch.

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/stages/corpus.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/pipeline/train/trainer.h"
#include "support/folder.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

namespace fairway::pipeline::testing {

using exec::Engine, exec::ExecutionOptions, exec::read_weights, exec::write_weights;

/// Recipe keys of the small model; `more` comes last.
inline Recipe small_recipe(std::vector<std::string> more = {}) {
  RecipeOptions options;
  options.scale = "tiny";
  options.set = {"model.vocab_size=320",    "model.layers=2",
                 "model.width=64",          "model.heads=2",
                 "model.kv_heads=1",        "model.ve_layers=[1]",
                 "model.xsa_layers=[1]",    "model.bigram_rows=128",
                 "data.train_bytes=120000", "train.steps=6",
                 "train.warmdown_steps=3",  "train.batch_tokens=1024",
                 "quant.level=3",           "score.tokens=0",
                 "train.validate_every=0",  "quant.passthrough_limit=1024"};
  options.set.insert(options.set.end(), more.begin(), more.end());
  return load_recipe("demo", options).recipe;
}

inline ExecutionOptions with_threads(int threads, base::ProgressSink* progress = nullptr) {
  ExecutionOptions options;
  options.threads = threads;
  options.progress = progress;
  return options;
}

/// Keeps what a run says.
class Said final : public base::ProgressSink {
 public:
  void update(const base::Progress& state) override { updates.push_back(state); }
  void note(std::string_view line) override { notes.emplace_back(line); }
  void warning(std::string_view line) override { warnings.emplace_back(line); }
  std::vector<base::Progress> updates;
  std::vector<std::string> notes, warnings;
};

using fairway::testing::Folder;

/// Fresh weights, or all zero (a model that predicts every token alike).
inline OpenModel fresh_model(const Recipe& recipe, const text::Tokenizer& tokenizer, Engine& engine,
                             bool zero = false) {
  OpenModel model{recipe, tokenizer, nullptr, "fresh", "memory", {}};
  model.weights =
      std::make_unique<graph::ParameterStore>(model::make_layout(recipe.model), tensor::Device{}, false);
  if (!zero) model::initialise(*model.weights, 1, engine.pool());
  return model;
}

/// Trains and is stopped from outside behind `step`, as Ctrl-C does it; what is left goes to `checkpoint`.
template <class MakeBackend>
TrainOutcome train_until(std::int64_t step, const Recipe& recipe, const Corpus& corpus,
                         const std::filesystem::path& checkpoint, MakeBackend&& make_backend) {
  std::stop_source source;
  auto options = with_threads(2);
  options.stop = source.get_token();
  Engine engine(options);
  Trainer trainer(recipe, corpus, engine, make_backend(engine));
  return trainer.run({[&](const StepMetrics& m) {
                       if (m.step == step) source.request_stop();
                     }},
                     checkpoint);
}
inline TrainOutcome train_until(std::int64_t step, const Recipe& recipe, const Corpus& corpus,
                                const std::filesystem::path& checkpoint) {
  return train_until(step, recipe, corpus, checkpoint,
                     [](Engine&) { return std::unique_ptr<TrainBackend>(); });
}

inline std::vector<std::byte> weights_of(const graph::ParameterStore& store) {
  const auto view = store.flat_values();
  const auto* data = static_cast<const std::byte*>(view.data);
  return {data, data + view.bytes()};
}

/// The message of the error that `body` throws, with the kind it must have; "" when nothing is thrown.
template <class F>
std::string error_of(base::ErrorKind kind, F&& body) {
  try {
    body();
  } catch (const base::Error& e) {
    const std::string message = e.what();
    if (e.kind() != kind) return "(other kind) " + message;
    if (message.find('\n') != std::string::npos) return "(several lines) " + message;
    return message;
  }
  return "";
}

template <class F>
std::string input_error(F&& body) {
  return error_of(base::ErrorKind::input, std::forward<F>(body));
}

}  // namespace fairway::pipeline::testing
