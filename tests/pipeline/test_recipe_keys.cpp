// Every key of a recipe changes what it says and nothing else: one line for each key, with a value other than
// the base's and what then differs among all that is looked at. A key without a line fails the test.
#include "fairway/adapt/protocol.h"
#include "fairway/artifact/artifact.h"
#include "fairway/base/hash.h"
#include "fairway/base/random.h"
#include "fairway/pipeline/recipe/recipe_schema.h"
#include "fairway/pipeline/run/run.h"
#include "fairway/pipeline/stages/adapt_stage.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/train/train_backend.h"
#include "fairway/pipeline/train/train_setup.h"
#include "recipe_key_lines.h"
#include "stages.h"

#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>

namespace fairway::pipeline::testing {
namespace {

using Json = nlohmann::ordered_json;
using Seen = std::map<std::string, std::string>;

std::string hash_of(std::span<const std::byte> bytes) { return base::hex64(base::hash64(bytes)); }
template <class T>
std::string hash_of(const std::vector<T>& values) {
  return hash_of(std::as_bytes(std::span(values)));
}
std::string text_of(double v) { return fmt::format("{}", v); }

/// Steps that do nothing and take ten seconds each; what they were told is kept.
class Recorder final : public TrainBackend {
 public:
  Recorder(const Recipe& recipe, const Engine& engine)
      : model_{1, std::make_unique<exec::ModelRunner>(recipe.model, engine,
                                                      exec::RunnerOptions{.trains = true})} {
    auto config = optimizer_config(recipe, weights().layout());
    config.groups.clear();  // averages alone
    optimizer_ = optim::make_optimizer(config, weights().flat_values(), weights().flat_gradients(),
                                       &engine.pool(), nullptr);
    swa_ = config.averages.swa;
  }
  void submit(const data::BatchLoader&, const StepPlan& plan) override { plans.push_back(plan); }
  StepOutcome collect() override {
    if (plans.back().average != AverageAction::none) {
      optimizer_->prepare({.ema = optim::EmaStep::update});
      optimizer_->enqueue();
      if (swa_) optimizer_->enqueue_swa_add();
    }
    return {1.0, {1.0, true}, 10.0};
  }
  int depth() const override { return 0; }
  const TrainingModel& model() const override { return model_; }
  optim::Optimizer& optimizer() override { return *optimizer_; }
  std::vector<StepPlan> plans;

 private:
  const TrainingModel model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  bool swa_ = false;
};

/// Values everywhere, so that every part of the model matters; whatever the initial ones are.
void fill_with_noise(graph::ParameterStore& store) {
  const base::Random noise(5, "noise");
  std::uint64_t i = 0;
  for (const auto& p : store.layout().parameters())
    for (auto& v : store.value(p.name).span<float>()) v = 0.3f * static_cast<float>(noise.normal(i++));
}

/// Texts, and a model that does not change with the recipe.
class Keys : public ::testing::Test {
 protected:
  Keys() : engine_(with_threads(1)) {
    std::string lines, paragraphs, objects, held;
    for (int i = 0; i < 120; ++i) {
      const auto line =
          fmt::format("Line {} of a text about {} moles and {} rats.", i, i * 7919 % 101, i * i % 37);
      lines += line + (i % 3 == 2 ? "\n\n" : "\n");
      objects += fmt::format("{{\"text\": \"{}\", \"body\": \"The body of {}.\"}}\n", line, i);
      held += fmt::format("A line that was held out, {}, with {} words.\n", i, i * 31 % 17);
    }
    base::write_file(folder_ / "a.txt", std::string_view(lines));
    base::write_file(folder_ / "b.jsonl", std::string_view(objects));
    base::write_file(folder_ / "v.txt", std::string_view(held));
    fixed_ = recipe_of({});
    fixed_corpus_.emplace(prepare_corpus(fixed_, engine_));
    weights_.emplace(model::make_layout(fixed_.model), tensor::Device{}, false);
    fill_with_noise(*weights_);
    OpenModel model{fixed_, fixed_corpus_->tokenizer, nullptr, "", "", {}};
    model.weights = std::make_unique<graph::ParameterStore>(weights_->layout(), tensor::Device{}, false);
    write_weights(*model.weights, read_weights(*weights_));
    export_safetensors(model, folder_ / "init.safetensors");
  }

  Recipe recipe_of(const std::vector<std::string>& more) const {
    RecipeOptions options;
    options.scale = "tiny";
    options.set = {"model.vocab_size=1024",
                   "model.layers=2",
                   "model.width=32",
                   "model.heads=2",
                   "model.kv_heads=1",
                   "model.mlp_mult=2",
                   "model.window=32",
                   "model.rope_dims=8",
                   "model.rope_rescale_length=16",
                   "model.bigram_rows=64",
                   "model.bigram_dim=8",
                   "model.ve_dim=8",
                   "model.ve_layers=[1]",
                   "model.xsa_layers=[1]",
                   "data.train=[\"" + folder_("a.txt") + "\"]",
                   "data.tokenizer=" FAIRWAY_DATA_DIR "/tokenizers/fineweb_1024_bpe.model",
                   "data.split_on=line",
                   "data.holdout_every=5",
                   "data.min_document_bytes=0",
                   "train.batch_tokens=512",
                   "train.micro_batch=0",
                   "train.steps=8",
                   "train.warmdown_steps=4",
                   "train.validate_every=0",
                   "optim.muon_momentum_steps=10",
                   "optim.grad_clip=0.3",
                   "average.kind=ema",
                   "quant.passthrough_limit=255",
                   "quant.level=3",
                   "score.stride=8",
                   "score.tokens=100",
                   "generate.tokens=0",
                   "adapt.when=never",
                   "budget.train_seconds=0",
                   "budget.artifact_bytes=0"};
    options.set.insert(options.set.end(), more.begin(), more.end());
    return load_recipe("demo", options).recipe;
  }

  static void add_optimizer(Seen& seen, const Recipe& r) {
    const auto& c = r.optim;
    const auto schedule = lr_schedule(r);
    auto add = [&](const char* name, double v) { seen[std::string("optim.") + name] = text_of(v); };
    add("matrix_lr", c.matrix_lr);
    add("table_lr", c.embedding_lr);
    add("scalar_lr", c.scalar_lr);
    add("momentum.start", c.muon_momentum.start);
    add("momentum.end", c.muon_momentum.end);
    add("momentum.steps", static_cast<double>(c.muon_momentum.steps));
    add("ns_steps", c.ns_steps);
    add("ns_precision", static_cast<double>(c.ns_dtype));
    add("ns_coefficients", static_cast<double>(c.ns_coefficients));
    add("muon_row_norm", c.muon_row_norm);
    add("muon_momentum_dtype", static_cast<double>(c.muon_momentum_dtype));
    add("scalar_weight_decay", c.scalar_weight_decay);
    add("schedule.fraction", schedule.warmdown_fraction);
    add("schedule.floor", schedule.floor);
    add("muon_weight_decay", c.muon_weight_decay);
    add("adam_weight_decay", c.adam_weight_decay);
    add("beta1", c.beta1);
    add("beta2", c.beta2);
    add("eps", c.eps);
    add("grad_clip", c.grad_clip);
    add("tables", static_cast<double>(c.embeddings));
    add("schedule.kind", static_cast<double>(schedule.kind));
    add("schedule.steps", static_cast<double>(schedule.total_steps));
    add("schedule.limit_ms", schedule.limit_ms);
    add("schedule.warmdown", static_cast<double>(schedule.warmdown_steps));
    add("reference_steps", r.train.reference_steps());
  }

  static void add_protocol(Seen& seen, const Recipe& r) {
    const auto p = protocol(r);
    auto add = [&](const std::string& name, const auto& v) { seen["adapt." + name] = fmt::format("{}", v); };
    add("seed", p.seed);
    add("when", static_cast<int>(p.when));
    add("phases", p.phases.size());
    for (std::size_t i = 0; i < p.phases.size(); ++i) {
      const auto& f = p.phases[i];
      const auto name = fmt::format("{}.", i);
      add(name + "train", f.train);
      add(name + "rule", static_cast<int>(f.rule.kind));
      add(name + "lr", f.lr);
      add(name + "lr_groups", f.lr_groups);
      add(name + "beta1", f.rule.beta1);
      add(name + "beta2", f.rule.beta2);
      add(name + "eps", f.rule.eps);
      add(name + "weight_decay", f.rule.weight_decay);
      add(name + "momentum", f.rule.momentum);
      add(name + "clip", f.grad_clip);
      add(name + "schedule", static_cast<int>(f.schedule));
      add(name + "epochs", f.epochs);
    }
    add("virtual_ranks", p.virtual_ranks);
    add("batch_windows", p.batch_windows);
    add("chunk_windows", p.chunk_windows);
    add("order", static_cast<int>(p.order));
    add("shards", static_cast<int>(p.shards));
    add("pass_lr", p.pass_lr);
    add("rotate", p.rotate);
    add("combination", static_cast<int>(p.combination));
    add("mixture_weights", p.mixture_weights);
    add("fake_quantize", p.fake_quantize);
    add("tables", static_cast<int>(p.tables));
  }

  /// Parameters, their first values, and what the model makes of other ones.
  void add_model(Seen& seen, const Recipe& r) {
    graph::ParameterStore store(model::make_layout(r.model), tensor::Device{}, false);
    std::string layout;
    for (const auto& p : store.layout().parameters()) layout += p.name + p.shape.str();
    seen["model.layout"] = layout;
    initial_weights(r, store, engine_.pool());
    seen["model.init"] = hash_of(read_weights(store));
    fill_with_noise(store);
    const int window = r.model.window, lead = r.model.memory_tokens;
    exec::ModelRunner runner(r.model, store, engine_);
    exec::WindowPrograms scorer(runner);
    scorer.add(window);
    runner.allocate();
    const auto n = static_cast<std::size_t>(scorer.rows() * window);
    std::vector<std::int32_t> inputs(n), targets(n);
    for (std::size_t i = 0; i < n; ++i) {
      inputs[i] = static_cast<std::int32_t>((i * 37 + i / 5) % 1000);
      targets[i] = static_cast<std::int32_t>((i * 91 + 3) % 1000);
    }
    std::vector<float> nll(n);
    scorer.score(inputs, targets, window, nll);
    seen["model.output"] = hash_of(std::vector<float>(nll.begin() + lead, nll.begin() + window));
  }

  /// What the loop decides, with steps that do nothing.
  void add_loop(Seen& seen, const Recipe& r, const Corpus& corpus) {
    Folder out;
    auto owned = std::make_unique<Recorder>(r, engine_);
    auto& recorder = *owned;
    Trainer trainer(r, corpus, engine_, std::move(owned));
    std::vector<std::int64_t> logged, validated;
    const auto outcome = trainer.run({[&](const StepMetrics& m) {
                                       logged.push_back(m.step);
                                       if (m.validation_loss) validated.push_back(m.step);
                                     }},
                                     out / "c.fwck");
    std::vector<double> scales;
    std::string averages, qat, sensitivity, looped;
    for (const auto& plan : recorder.plans) {
      scales.push_back(std::round(plan.lr_scale * 1e6));
      averages += "-=+"[static_cast<int>(plan.average)];
      qat += plan.fake_quantise ? 'q' : '-';
      looped += plan.looped ? 'l' : '-';
      sensitivity += plan.sensitivity ? 's' : '-';
    }
    seen["loop.steps"] = fmt::format("{}", recorder.plans.size());
    seen["loop.scales"] = fmt::format("{}", scales);
    seen["loop.averages"] = averages;
    seen["loop.average_count"] = fmt::format("{}", outcome.average_count);
    seen["loop.qat"] = qat;
    seen["loop.looped"] = looped;
    seen["loop.qat_step"] = fmt::format("{}", outcome.qat_step);
    seen["loop.sensitivity"] = sensitivity;
    seen["loop.logged"] = fmt::format("{}", logged);
    seen["loop.validated"] = fmt::format("{}", validated);
    seen["loop.end"] = std::string(base::name_of(outcome.end));
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(out.path()))
      files.push_back(entry.path().filename().string());
    std::ranges::sort(files);
    seen["loop.files"] = fmt::format("{}", files);
    std::vector<int> levels;
    const auto layout = model::make_layout(model::ModelConfig{});
    for (const char* name : {"blocks.0.attn.c_q.weight", "blocks.0.mlp.fc.weight", "bigram.proj.weight"})
      levels.push_back(qat_levels(r)(layout.find(name)));
    seen["loop.qat_levels"] = fmt::format("{}", levels);
  }

  /// Two real steps, in the warm-down, and the average after them.
  void add_step(Seen& seen, const Recipe& r, const Corpus& corpus) {
    const auto backend = make_train_backend(r, engine_);
    seen["step.start"] = hash_of(read_weights(backend->weights()));
    fill_with_noise(backend->weights());
    data::BatchLoader loader(corpus.train, batch_shape(r));
    StepOutcome outcome;
    for (const int step : {5, 6}) {
      loader.next_step();
      StepPlan plan;
      plan.progress = {step, 100.0 * step};
      plan.average = AverageAction::add;
      plan.fake_quantise = r.qat.acts();
      backend->submit(loader, plan);
      outcome = backend->collect();
      if (step == 5) seen["step.loss"] = fmt::format("{:.7g}", outcome.loss);
    }
    seen["step.rows"] = fmt::format("{}", backend->model().rows);
    seen["step.weights"] = hash_of(read_weights(backend->weights()));
    const auto average = read_average(r, backend->optimizer(), backend->weights().layout());
    seen["step.average"] = average ? hash_of(*average) : "none";
  }

  void add_corpus(Seen& seen, const Recipe& r, const Corpus& corpus) {
    std::vector<std::uint16_t> tokens(corpus.train.size());
    corpus.train.read(0, tokens);
    seen["corpus.train"] = hash_of(tokens);
    seen["corpus.validation"] = hash_of(corpus.validation.tokens);
    seen["corpus.tokenizer"] = base::hex64(corpus.tokenizer.fingerprint());
    data::BatchLoader loader(corpus.train, batch_shape(r));
    loader.next_step();
    const auto n = static_cast<std::size_t>(r.train.batch_tokens);
    std::vector<std::int32_t> inputs(n), targets(n);
    loader.rows(0, inputs, targets);
    seen["corpus.batch"] = hash_of(inputs) + hash_of(targets);
  }

  /// The fixed weights packed.
  void add_pack(Seen& seen, const Recipe& r) {
    quant::Sensitivity sensitivity;
    for (const auto& p : weights_->layout().parameters())
      if (p.group == graph::Group::matrix) sensitivity[p.name] = static_cast<double>(sensitivity.size() + 1);
    Measured measured{sensitivity};
    for (const auto& p : weights_->layout().parameters()) {
      if (!p.multiplied && p.group != graph::Group::embedding) continue;
      const auto n = static_cast<std::size_t>(p.shape.columns());
      auto& h = measured.hessians[p.name];
      h.resize(n * n);
      for (std::size_t i = 0; i < n * n; ++i) h[i] = i % (n + 1) == 0 ? 1.0f : 0.5f;
    }
    const auto packed = make_artifact(r, *weights_, fixed_corpus_->tokenizer, "{}", engine_, measured);
    std::string kinds;
    std::vector<std::string> values;
    for (const auto& t : packed.tensors) {
      kinds += fmt::format("{}:{} ", t.name, artifact::kind_name(t.kind));
      values.push_back(hash_of(t.q) + hash_of(t.scales) + hash_of(t.half));
    }
    seen["pack.kinds"] = kinds;
    seen["pack.values"] = fmt::format("{}", values);
    const auto ledger =
        pack(r, *weights_, fixed_corpus_->tokenizer, "{}", folder_ / "p.fairway", engine_, measured);
    seen["pack.bytes"] = fmt::format("{}", ledger.weights_bytes);
    // A bf16 table is read back as it was in training.
    auto same_model = r;
    same_model.model = fixed_.model;
    same_model.train = fixed_.train;  // packed and loop_start ask for parts of the model
    auto again = packed;
    again.recipe_text = to_portable_toml(same_model);
    seen["pack.read"] = hash_of(weights_of(*from_artifact(again, "again").weights));
  }

  static void add_score(Seen& seen, const std::string& group, const score::ScoreResult& s) {
    seen[group + ".tokens"] = fmt::format("{}", s.tokens);
    seen[group + ".bytes"] = fmt::format("{}", s.bytes);
    seen[group + ".nll"] = text_of(s.nll);
    seen[group + ".rule"] = s.rule;
    seen[group + ".stride"] = fmt::format("{}", s.stride);
    seen[group + ".tail"] = base::name_of(s.tail);
    seen[group + ".notes"] = fmt::format("{}", s.verdict.notes);
  }

  /// The fixed model's scores, by the scorer and by a protocol that trains nothing.
  void add_scores(Seen& seen, const Recipe& r) {
    const auto& text = fixed_corpus_->validation;
    add_score(seen, "score",
              score_text(fixed_.model, *weights_, fixed_corpus_->tokenizer, text, r.score, r.score.stride,
                         engine_));
    auto still = r;
    still.model = fixed_.model;
    still.adapt = {};
    still.budget = {};
    add_score(seen, "entered",
              adapt_and_score(still, *weights_, fixed_corpus_->tokenizer, text, engine_).run.score);
  }

  /// What is worth the time to look at: a key of the model or the text does not reach who is given other
  /// weights and tokens than its own, nor does one of test-time training reach any stage before.
  enum class Look { all, training, settings };
  static Look look_for(const std::string& key) {
    if (key.starts_with("adapt.")) return Look::settings;
    return key.starts_with("model.") || key.starts_with("data.") || key == "seed" ? Look::training
                                                                                  : Look::all;
  }

  Seen look(const Recipe& r, Look what) {
    Seen seen{{"description", r.description}};
    add_optimizer(seen, r);
    add_protocol(seen, r);
    if (what == Look::settings) {
      add_loop(seen, r, *fixed_corpus_);
      return seen;
    }
    const auto corpus = prepare_corpus(r, engine_);
    add_model(seen, r);
    add_corpus(seen, r, corpus);
    add_loop(seen, r, corpus);
    add_step(seen, r, corpus);
    if (what == Look::training) return seen;
    add_pack(seen, r);
    add_scores(seen, r);
    return seen;
  }

  /// result.json of a whole run by its paths, without what a clock or an address decides.
  Seen look_at_run(Recipe r, int number) {
    r.train.steps = 1;
    RunOptions options;
    options.recipe = {r, "builtin:demo", {}, "tiny"};
    options.out = folder_ / fmt::format("run-{}", number);
    const auto result = Json::parse(run(options, engine_).json).flatten();
    Seen seen;
    for (const auto& [path, value] : result.items()) {
      const bool timed = path.find("second") != path.npos || path.find("peak_memory") != path.npos ||
                         path.starts_with("/stages") || path == "/checkpoint";
      if ((!timed || path.ends_with("allowed")) && !path.ends_with("/path"))
        seen["run" + path] = value.dump();
    }
    return seen;
  }

  Folder folder_;
  Engine engine_;
  Recipe fixed_;
  std::optional<Corpus> fixed_corpus_;
  std::optional<graph::ParameterStore> weights_;
};

bool fits(const std::string& pattern, const std::string& name) {
  return pattern.ends_with('*') ? name.starts_with(pattern.substr(0, pattern.size() - 1)) : name == pattern;
}

std::vector<std::string> differing(const Seen& a, const Seen& b) {
  std::vector<std::string> names;
  for (const auto& [name, value] : a)
    if (const auto found = b.find(name); found == b.end() || found->second != value) names.push_back(name);
  for (const auto& [name, value] : b)
    if (!a.contains(name)) names.push_back(name);
  return names;
}

/// Each pattern has something that differs, and nothing else does.
void expect_changes(const Line& line, const Seen& before, const Seen& after) {
  const auto names = differing(before, after);
  for (const auto& pattern : line.changes)
    EXPECT_TRUE(std::ranges::any_of(names, [&](const auto& n) { return fits(pattern, n); }))
        << line.key << " = " << line.value << " changes no " << pattern;
  for (const auto& name : names)
    EXPECT_TRUE(std::ranges::any_of(line.changes, [&](const auto& p) { return fits(p, name); }))
        << line.key << " = " << line.value << " changes " << name;
}

TEST_F(Keys, EachChangesWhatItSaysAndNothingElse) {
  std::map<std::pair<Look, std::vector<std::string>>, std::pair<Recipe, Seen>> bases;
  auto all = lines(folder_);
  for (auto& line : adapt_lines()) all.push_back(line);
  for (const auto& line : all) {
    SCOPED_TRACE(line.key);
    const auto what = look_for(line.key);
    auto set = line.more;
    if (!bases.contains({what, set})) {
      const auto recipe = recipe_of(set);
      bases[{what, set}] = {recipe, look(recipe, what)};
    }
    const auto& [base, before] = bases[{what, set}];
    set.push_back(line.key + "=" + line.value);
    const auto changed = recipe_of(set);
    EXPECT_THAT(changed_keys(base, changed), ::testing::ElementsAre(line.key)) << "the value is the base's";
    expect_changes(line, before, look(changed, what));
  }
}

TEST_F(Keys, WhatOnlyAWholeRunShows) {
  std::map<std::vector<std::string>, Seen> bases;
  int number = 0;
  for (const auto& line : run_lines()) {
    SCOPED_TRACE(line.key);
    auto set = line.more;
    if (!bases.contains(set)) bases[set] = look_at_run(recipe_of(set), number++);
    set.push_back(line.key + "=" + line.value);
    auto after = look_at_run(recipe_of(set), number++);
    // The recipe is inside the artifact: its length there is no effect of the key.
    auto before = bases[line.more];
    for (auto* seen : {&before, &after})
      std::erase_if(*seen, [](const auto& entry) {
        return entry.first.starts_with("run/artifact/") || entry.first.ends_with("artifact_bytes/used");
      });
    expect_changes(line, before, after);
  }
}

TEST_F(Keys, ABudgetThatIsEnforcedActs) {
  auto refused = [&](const std::string& key) {
    return error_of(base::ErrorKind::failure, [&] {
      look_at_run(recipe_of({key, "budget.enforce=true"}), 100);
    });
  };
  EXPECT_THAT(refused("budget.artifact_bytes=200"), ::testing::HasSubstr("budget.artifact_bytes allows 200"));
  std::filesystem::remove_all(folder_ / "run-100");
  EXPECT_THAT(refused("budget.eval_seconds=0.000000001"), ::testing::HasSubstr("plain windows alone"));
  auto end = [&](const std::vector<std::string>& set) {
    Seen seen;
    add_loop(seen, recipe_of(set), *fixed_corpus_);
    return seen["loop.end"] + " " + seen["loop.steps"];
  };
  EXPECT_EQ(end({"budget.train_seconds=35", "budget.enforce=true"}), "schedule 8")
      << "the clock has not moved";
  EXPECT_EQ(end({"budget.train_seconds=5", "budget.enforce=true"}), "budget 1") << "a step takes ten seconds";
  EXPECT_EQ(end({"budget.train_seconds=5"}), "schedule 8") << "it is only said";
}

TEST_F(Keys, BadLinesAreLeftOutWhereTheKeySaysSo) {
  base::write_file(folder_ / "bad.jsonl", base::read_text_file(folder_ / "b.jsonl") + "no JSON\n" +
                                              base::read_text_file(folder_ / "b.jsonl"));
  const auto train = "data.train=[\"" + folder_("bad.jsonl") + "\"]";
  EXPECT_THAT(input_error([&] { prepare_corpus(recipe_of({train}), engine_); }),
              ::testing::HasSubstr("bad.jsonl"));
  EXPECT_GT(prepare_corpus(recipe_of({train, "data.skip_bad_lines=true"}), engine_).train.size(),
            prepare_corpus(recipe_of({"data.train=[\"" + folder_("b.jsonl") + "\"]"}), engine_).train.size());
}

TEST_F(Keys, ATokenizerThatIsTrainedHasCaseOperators) {
  for (const bool wanted : {false, true}) {
    const auto recipe =
        recipe_of({"data.tokenizer=", "model.vocab_size=310", fmt::format("data.case_operators={}", wanted)});
    EXPECT_EQ(text::has_case_operators(prepare_corpus(recipe, engine_).tokenizer.transform()), wanted);
  }
}

TEST_F(Keys, HaveALineEach) {
  // Tests of their own: ABudgetThatIsEnforcedActs, BadLinesAreLeftOutWhereTheKeySaysSo,
  // ATokenizerThatIsTrainedHasCaseOperators, FusedMarkers.* of test_fused_markers.cpp, Gptq.* and
  // Packing.Gates* of test_packing.cpp, those of the timer of saves.
  std::set<std::string> known = {"budget.enforce",           "data.skip_bad_lines",
                                 "data.case_operators",      "data.fuse_markers",
                                 "train.checkpoint_seconds", "quant.calibration_batches",
                                 "quant.calibration_tokens", "quant.gates"};
  for (const auto& some : {lines(folder_), adapt_lines(), run_lines()})
    for (const auto& line : some) EXPECT_TRUE(known.insert(line.key).second) << line.key << " twice";
  for (const auto& key : recipe_keys())
    EXPECT_TRUE(known.erase(key.name)) << "the new key " << key.name << " needs a line in recipe_key_lines.h";
  EXPECT_TRUE(known.empty()) << *known.begin() << " is no key";
}

}  // namespace
}  // namespace fairway::pipeline::testing
