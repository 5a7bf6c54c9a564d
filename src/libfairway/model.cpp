#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/fairway.h"
#include "fairway/pipeline/run/run.h"
#include "fairway/pipeline/stages/generate.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/pipeline/stages/scoring.h"

#include <optional>

namespace fairway {

namespace {

/// Runs `body` and turns the layers' errors into the public one.
template <class F>
auto translated(F&& body) {
  try {
    return body();
  } catch (const base::Error& e) {
    const int code = e.kind() == base::ErrorKind::input         ? 2
                     : e.kind() == base::ErrorKind::interrupted ? 130
                                                                : 1;
    throw Error(code, e.what());
  } catch (const std::bad_alloc&) {
    throw Error(1, "out of memory");
  } catch (const std::exception& e) {
    throw Error(1, e.what());
  }
}

exec::ExecutionOptions execution(int threads, std::stop_token stop = {}) {
  exec::ExecutionOptions options;
  options.threads = threads;
  options.stop = std::move(stop);
  return options;
}

}  // namespace

struct Model::Impl {
  Impl(const std::string& path, int thread_count)
      : threads(thread_count), model(pipeline::open_model(path)) {}

  /// What runs the model; made by the first call that needs it, with programs as calls ask for them.
  struct Running {
    Running(const pipeline::OpenModel& model, int threads)
        : engine(execution(threads)),
          runner(model.recipe.model, *model.weights, engine),
          evaluation(pipeline::evaluated(model.recipe), *model.weights, engine),
          scorer(evaluation) {}
    exec::Engine engine;
    exec::ModelRunner runner, evaluation;  ///< to decode; to score, in windows of its own length
    exec::WindowPrograms scorer;
    std::optional<pipeline::Decoder> decoder;
  };
  Running& run(std::stop_token stop = {}) {
    if (!running) running = std::make_unique<Running>(model, threads);
    running->engine.set_stop(std::move(stop));
    return *running;
  }
  pipeline::Decoder& decode(std::stop_token stop = {}) {
    auto& r = run(std::move(stop));
    if (!r.decoder) r.decoder.emplace(r.runner);
    return *r.decoder;
  }

  int threads;
  pipeline::OpenModel model;
  std::unique_ptr<Running> running;
};

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

Model Model::open(const std::string& path, const ModelOptions& options) {
  return translated([&] { return Model(std::make_unique<Impl>(path, options.threads)); });
}

int Model::vocab_size() const { return impl_->model.recipe.model.vocab_size; }
int Model::window() const { return impl_->model.recipe.model.window; }
std::int64_t Model::parameters() const { return impl_->model.weights->layout().count(); }
std::string Model::recipe() const { return pipeline::to_portable_toml(impl_->model.recipe); }

std::vector<std::int32_t> Model::encode(std::string_view text) const {
  return translated([&] { return impl_->model.tokenizer.encode(text); });
}
std::string Model::decode(std::span<const std::int32_t> tokens) const {
  return translated([&] { return impl_->model.tokenizer.decode(tokens); });
}

Score Model::score(std::string_view text, const ScoreOptions& options, std::stop_token stop) const {
  return translated([&] {
    const auto& m = impl_->model;
    auto& running = impl_->run(std::move(stop));
    const auto scored = pipeline::scored_documents({{.text = std::string(text), .where = "text"}},
                                                   m.tokenizer, running.engine);
    const int stride = options.stride >= 0 ? options.stride : m.recipe.score.stride;
    auto config = m.recipe.score;
    config.tokens = 0;  // a limit of the recipe was for its run
    const auto r = pipeline::score_text(running.scorer, m.tokenizer, scored, config, stride);
    return Score{r.loss, r.bits_per_byte, r.tokens, r.bytes, r.rule, r.verdict.text()};
  });
}

std::vector<float> Model::logits(std::span<const std::int32_t> tokens) const {
  return translated([&] {
    if (tokens.empty()) base::fail_input("logits need at least one token");
    for (const auto t : tokens)
      if (t < 0 || t >= vocab_size())
        base::fail_input("token {} is outside the vocabulary of {}", t, vocab_size());
    auto& decoder = impl_->decode();
    decoder.reset();
    const auto values = decoder.feed(tokens);
    return std::vector<float>(values.begin(), values.end());
  });
}

std::string Model::generate(std::string_view prompt, const GenerateOptions& options,
                            std::stop_token stop) const {
  return translated([&] {
    pipeline::GenerateOptions g;
    g.tokens = options.tokens;
    g.temperature = options.temperature;
    g.top_k = options.top_k;
    g.seed = options.seed;
    g.prompt = std::string(prompt);
    g.on_text = options.on_text;
    return pipeline::generate(impl_->model, g, impl_->decode(std::move(stop))).text;
  });
}

void Model::export_safetensors(const std::string& path) const {
  translated([&] { pipeline::export_safetensors(impl_->model, path); });
}

namespace {

/// Forwards training progress to the caller.
class StepSink final : public base::ProgressSink {
 public:
  explicit StepSink(const std::function<void(const TrainStep&)>& on_step) : on_step_(on_step) {}
  void update(const base::Progress& p) override {
    if (on_step_ && p.task == "train") on_step_({p.done, p.total, p.loss.value_or(0), p.rate.value_or(0)});
  }
  void note(std::string_view) override {}
  void warning(std::string_view) override {}

 private:
  const std::function<void(const TrainStep&)>& on_step_;
};

}  // namespace

std::string train(const std::string& recipe, const std::string& out, const TrainOptions& options,
                  std::stop_token stop) {
  return translated([&] {
    StepSink sink(options.on_step);
    auto e = execution(options.threads, std::move(stop));
    e.progress = &sink;
    exec::Engine engine(e);
    pipeline::RunOptions run;
    run.recipe = pipeline::load_recipe(recipe, {.set = options.set, .scale = options.scale, .seed = {}});
    run.out = out;
    run.resume = options.resume;
    return pipeline::run(run, engine).json;
  });
}

std::string version() { return pipeline::build_version(); }

}  // namespace fairway
