// Models in files: artifacts, checkpoints, safetensors.
#include "fairway/artifact/artifact.h"
#include "fairway/artifact/safetensors.h"
#include "fairway/pipeline/run/run.h"
#include "fairway/pipeline/stages/packing.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <cmath>

namespace fairway::pipeline::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Scene {
  explicit Scene(std::vector<std::string> set = {}, int threads = 2)
      : engine(with_threads(threads)),
        recipe(small_recipe(std::move(set))),
        corpus(prepare_corpus(recipe, engine)),
        model(fresh_model(recipe, corpus.tokenizer, engine)) {}
  artifact::Artifact pack_in_memory() {
    return make_artifact(recipe, *model.weights, corpus.tokenizer, corpus.manifest, engine);
  }
  Engine engine;
  Recipe recipe;
  Corpus corpus;
  OpenModel model;
};

TEST(Safetensors, ExportAndImportKeepEveryBit) {
  Scene s;
  Folder folder;
  export_safetensors(s.model, folder / "m.safetensors");
  graph::ParameterStore loaded(model::make_layout(s.recipe.model), {}, false);
  load_safetensors(loaded, folder / "m.safetensors");
  EXPECT_EQ(weights_of(loaded), weights_of(*s.model.weights));
  auto recipe = s.recipe;
  recipe.train.init = folder("m.safetensors");
  Trainer trainer(recipe, s.corpus, s.engine);
  EXPECT_EQ(weights_of(trainer.weights()), weights_of(*s.model.weights));
  const auto file = artifact::SafeTensors::open(folder / "m.safetensors");
  EXPECT_EQ(file.tensors().size(), s.model.weights->layout().parameters().size());
  EXPECT_THAT(file.metadata().at("fairway.recipe"), HasSubstr("vocab_size = 320"));
}

TEST(Safetensors, WhatDoesNotFitIsNamed) {
  Scene s;
  Folder folder;
  export_safetensors(s.model, folder / "m.safetensors");
  auto said = [&](const std::vector<std::string>& set) {
    const auto recipe = small_recipe(set);
    return input_error([&] {
      graph::ParameterStore store(model::make_layout(recipe.model), {}, false);
      load_safetensors(store, folder / "m.safetensors");
    });
  };
  EXPECT_THAT(said({"model.width=96", "model.heads=3"}), AllOf(HasSubstr("has shape"), HasSubstr("96")));
  EXPECT_THAT(said({"model.layers=3"}), AllOf(HasSubstr("blocks.2."), HasSubstr("is missing")));
  EXPECT_THAT(said({"model.smear=false"}), HasSubstr("'smear.gate' is not part of the recipe's model"));
  EXPECT_THAT(input_error([&] {
                graph::ParameterStore store(model::make_layout(s.recipe.model), {}, false);
                load_safetensors(store, folder / "none.safetensors");
              }),
              HasSubstr("none.safetensors"));
}

TEST(Safetensors, WeightsThatAreNoNumbersAreRefused) {
  Scene s;
  Folder folder;
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    s.model.weights->value("blocks.1.mlp.proj.weight").span<float>()[5] = bad;
    export_safetensors(s.model, folder / "m.safetensors");
    graph::ParameterStore store(model::make_layout(s.recipe.model), {}, false);
    EXPECT_THAT(input_error([&] { load_safetensors(store, folder / "m.safetensors"); }),
                HasSubstr(fmt::format("tensor 'blocks.1.mlp.proj.weight' holds {} at element 5", bad)));
  }
}

TEST(ModelPath, AFolderIsItsArtifactOrElseItsCheckpoint) {
  Folder folder;
  EXPECT_EQ(model_path(folder / "none.fairway"), folder / "none.fairway") << "a file is itself";
  EXPECT_THAT(input_error([&] { model_path(folder.path()); }),
              HasSubstr("a folder without model.fairway or checkpoint.fwck"));
  base::write_file(folder / "checkpoint.fwck", std::string_view("x"));
  EXPECT_EQ(model_path(folder.path()), folder / "checkpoint.fwck");
  base::write_file(folder / "model.fairway", std::string_view("x"));
  EXPECT_EQ(model_path(folder.path()), folder / "model.fairway");
  EXPECT_EQ(model_path(folder.path(), Weights::raw), folder / "checkpoint.fwck");
  std::filesystem::remove(folder / "checkpoint.fwck");
  EXPECT_THAT(input_error([&] { model_path(folder.path(), Weights::raw); }),
              HasSubstr("a folder without checkpoint.fwck"));
}

TEST(Artifact, ReadBackItIsWithinTheGridOfWhatWasPacked) {
  Scene s;
  Folder folder;
  pack(s.recipe, *s.model.weights, s.corpus.tokenizer, s.corpus.manifest, folder / "m.fairway", s.engine);
  const auto back = open_model(folder / "m.fairway");
  EXPECT_EQ(back.kind, "artifact");
  EXPECT_EQ(back.tokenizer.fingerprint(), s.corpus.tokenizer.fingerprint());
  EXPECT_EQ(back.recipe.model, s.recipe.model);
  const auto file = artifact::read_artifact(folder / "m.fairway");
  int integers = 0;
  for (const auto& p : s.model.weights->layout().parameters()) {
    const auto before = s.model.weights->value(p.name).span<const float>();
    const auto after = back.weights->value(p.name).span<const float>();
    const auto* stored = file.find(p.name);
    ASSERT_NE(stored, nullptr) << p.name;
    const bool integer = artifact::is_integer(stored->kind);
    integers += integer;
    const auto columns = integer ? before.size() / static_cast<std::size_t>(stored->rows()) : 1;
    for (std::size_t i = 0; i < before.size(); ++i) {
      // The search may clip a row's largest values; nothing else is off by more than half a step.
      const double step = integer ? static_cast<double>(tensor::to_float(stored->scales[i / columns])) : 0.0;
      const bool clipped = integer && (stored->q[i] >= 31 || stored->q[i] <= -31);
      const double allowed = integer ? 0.502 * step : 1e-3 * std::abs(static_cast<double>(before[i])) + 1e-7;
      if (!clipped) {
        ASSERT_LE(std::abs(static_cast<double>(before[i] - after[i])), allowed) << p.name << " " << i;
      }
    }
  }
  EXPECT_GE(integers, 12) << "six matrices in each of two layers";
}

TEST(Artifact, NoExportOrPackOverwritesItsInput) {
  Scene s({"train.steps=0"});
  Folder folder;
  pack(s.recipe, *s.model.weights, s.corpus.tokenizer, s.corpus.manifest, folder / "m.fairway", s.engine);
  Trainer trainer(s.recipe, s.corpus, s.engine);
  trainer.save(folder / "c.fwck");
  std::filesystem::create_hard_link(folder / "c.fwck", folder / "hard.fwck");
  std::filesystem::create_symlink("m.fairway", folder / "soft");
  const auto artifact = base::read_file(folder / "m.fairway"),
             checkpoint = base::read_file(folder / "c.fwck");
  EXPECT_THAT(input_error([&] { export_safetensors(open_model(folder / "m.fairway"), folder / "soft"); }),
              HasSubstr("would be overwritten"));
  for (const char* out : {"c.fwck", "./c.fwck", "hard.fwck"})
    EXPECT_THAT(input_error([&] { pack_checkpoint(folder / "c.fwck", folder / out, {}, s.engine); }),
                HasSubstr("would be overwritten"));
  EXPECT_EQ(base::read_file(folder / "m.fairway"), artifact);
  EXPECT_EQ(base::read_file(folder / "c.fwck"), checkpoint);
}

/// Files of versions that projected the value embedding at equal widths too (small_recipe's are) keep their
/// shapes and scores; training goes on from them in no other.
TEST(ModelFile, OlderShapesAreKnownByTheirTensors) {
  Scene s({"score.tokens=400"});
  Folder folder;
  auto older = s.recipe;
  older.model.older_shapes = true;
  const auto made = fresh_model(older, s.corpus.tokenizer, s.engine);
  ASSERT_EQ(made.weights->layout().parameters().size(), s.model.weights->layout().parameters().size() + 1);
  pack(older, *made.weights, s.corpus.tokenizer, s.corpus.manifest, folder / "older.fairway", s.engine);
  const auto back = open_model(folder / "older.fairway");
  EXPECT_EQ(back.recipe.model, older.model);
  EXPECT_TRUE(back.weights->layout().contains("ve_shared.proj.weight"));
  const auto score = score_text(back.recipe.model, *back.weights, back.tokenizer, s.corpus.validation,
                                back.recipe.score, 0, s.engine);
  EXPECT_NEAR(score.loss, std::log(320.0), 0.05);

  Trainer trainer(older, s.corpus, s.engine);
  trainer.run({}, folder / "older.fwck");
  EXPECT_EQ(open_model(folder / "older.fwck").recipe.model, older.model);
  EXPECT_THAT(input_error([&] { Trainer(s.recipe, s.corpus, s.engine).restore(folder / "older.fwck"); }),
              HasSubstr("holds more tensors than the recipe's model"));

  pack(s.recipe, *s.model.weights, s.corpus.tokenizer, s.corpus.manifest, folder / "now.fairway", s.engine);
  EXPECT_FALSE(open_model(folder / "now.fairway").recipe.model.older_shapes);
}

TEST(Artifact, EqualInputsGiveEqualBytes) {
  std::vector<std::vector<std::byte>> bytes;
  for (const int threads : {1, 2, 3}) {
    Scene s({}, threads);
    bytes.push_back(artifact::encode_artifact(s.pack_in_memory(), {artifact::Coder::zstd, 3}));
  }
  EXPECT_EQ(bytes[0], bytes[1]);
  EXPECT_EQ(bytes[0], bytes[2]);
}

TEST(Artifact, SaysWhereItCameFromButNotOnWhichMachine) {
  Folder folder;
  Scene s;
  auto recipe = s.recipe;
  recipe.data.train = {folder("private/text.txt")};
  const auto a = make_artifact(recipe, *s.model.weights, s.corpus.tokenizer, s.corpus.manifest, s.engine);
  EXPECT_EQ(a.recipe_text.find(folder("private")), std::string::npos);
  EXPECT_THAT(a.recipe_text, HasSubstr("text.txt"));
  EXPECT_EQ(a.provenance.seed, 1337u);
  EXPECT_EQ(a.provenance.device, "cpu");
  EXPECT_THAT(a.provenance.build, HasSubstr("fairway "));
  EXPECT_THAT(a.provenance.data_manifest, HasSubstr("train_hash"));
}

TEST(Artifact, PruningMakesItSmaller) {
  Scene s;
  const auto plain = artifact::encode_artifact(s.pack_in_memory(), {artifact::Coder::zstd, 3});
  s.recipe.quant.policy.prune.share = 0.5;
  const auto pruned = s.pack_in_memory();
  std::int64_t zeros = 0, all = 0;
  for (const auto& t : pruned.tensors)
    if (t.kind == artifact::TensorKind::int6) {
      zeros += std::ranges::count(t.q, 0);
      all += t.elements();
    }
  EXPECT_GT(zeros, all * 45 / 100);
  EXPECT_LT(artifact::encode_artifact(pruned, {artifact::Coder::zstd, 3}).size(), plain.size());
}

TEST(OpenModel, CheckpointsHoldRawAndAveragedWeights) {
  Scene s({"train.steps=4", "average.kind=ema"});
  Folder folder;
  Trainer trainer(s.recipe, s.corpus, s.engine);
  trainer.run({}, folder / "c.fwck");
  const auto averaged = open_model(folder / "c.fwck"), raw = open_model(folder / "c.fwck", Weights::raw);
  EXPECT_EQ(averaged.kind, "checkpoint");
  EXPECT_EQ(weights_of(*raw.weights), weights_of(trainer.weights()));
  EXPECT_EQ(weights_of(*averaged.weights), weights_of(*trainer.exported_weights()));
  EXPECT_NE(weights_of(*raw.weights), weights_of(*averaged.weights));
}

TEST(OpenModel, WhatIsNotAModelIsNamed) {
  Scene s;
  Folder folder;
  base::write_file(folder / "text.fairway",
                   std::string_view("some text that is no model at all, long enough"));
  EXPECT_THAT(input_error([&] { open_model(folder / "text.fairway"); }),
              HasSubstr("neither a .fairway artifact"));
  EXPECT_THAT(input_error([&] { open_model(folder / "none.fairway"); }), HasSubstr("none.fairway"));
  auto a = s.pack_in_memory();
  a.tokenizer.reset();
  EXPECT_THAT(input_error([&] { from_artifact(a, "x"); }), HasSubstr("holds no tokenizer"));
  a = s.pack_in_memory();
  a.tensors.pop_back();
  EXPECT_THAT(input_error([&] { from_artifact(a, "x"); }), HasSubstr("is missing"));
  a = s.pack_in_memory();
  a.recipe_text = "[model]\nwidth = 64\nlayers = oops\n";
  EXPECT_THAT(input_error([&] { from_artifact(a, "x"); }), HasSubstr("x (recipe):3"));
}

/// A quantiser that calibrates reads the training text once more and gives the run's own bytes.
TEST(PackCheckpoint, CalibratesOnTheTextOfTheRun) {
  const Folder folder;
  const std::string demo(*builtin_text("builtin:demo.txt"));
  base::write_file(folder / "text.txt", demo.substr(0, 90000));
  RunOptions options;
  options.recipe.recipe = small_recipe({"quant.matrix=int6_gptq", "quant.table=int7_gptq",
                                        "model.bigram_rows=0", "model.ve_dim=0", "model.ve_layers=[]",
                                        "quant.calibration_batches=2", "quant.calibration_tokens=1024",
                                        "score.tokens=300", "score.stride=0", "generate.tokens=0"});
  options.recipe.recipe.data.train = {(folder / "text.txt").string()};
  options.out = folder / "run";
  Engine engine(with_threads(2));
  run(options, engine);
  pack_checkpoint(folder / "run", folder / "again.fairway", {}, engine);
  EXPECT_EQ(base::read_file(folder / "again.fairway"), base::read_file(folder / "run/model.fairway"));
  pack_checkpoint(folder / "run", folder / "other.fairway", {"quant.lqer_tensors=2"}, engine);
  EXPECT_NE(base::read_file(folder / "other.fairway"), base::read_file(folder / "run/model.fairway"));

  std::filesystem::copy_file(folder / "run/checkpoint.fwck", folder / "alone.fwck");
  EXPECT_THAT(input_error([&] { pack_checkpoint(folder / "alone.fwck", folder / "x", {}, engine); }),
              HasSubstr("pack it in the folder of its run"));
  base::write_file(folder / "text.txt", demo.substr(1000, 90000));
  EXPECT_THAT(input_error([&] { pack_checkpoint(folder / "run", folder / "x", {}, engine); }),
              HasSubstr("since the run began"));
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

TEST(PackCheckpoint, ChangesQuantKeysOnly) {
  Scene s({"train.steps=1"});
  Folder folder;
  Trainer trainer(s.recipe, s.corpus, s.engine);
  trainer.run({}, folder / "c.fwck");
  pack_checkpoint(folder / "c.fwck", folder / "a.fairway", {}, s.engine);
  pack_checkpoint(folder / "c.fwck", folder / "b.fairway", {"quant.matrix=int6_rowmax"}, s.engine);
  EXPECT_NE(base::read_file(folder / "a.fairway"), base::read_file(folder / "b.fairway"));
  EXPECT_EQ(open_model(folder / "b.fairway").recipe.quant.policy.attention->name, "int6_rowmax");
  EXPECT_THAT(
      input_error([&] { pack_checkpoint(folder / "c.fwck", folder / "x", {"train.steps=9"}, s.engine); }),
      HasSubstr("only quant keys"));
  EXPECT_THAT(input_error([&] { pack_checkpoint(folder / "a.fairway", folder / "x", {}, s.engine); }),
              HasSubstr("not a .fwck checkpoint"));
}

}  // namespace
}  // namespace fairway::pipeline::testing
