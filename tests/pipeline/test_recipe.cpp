// Recipes as they should be: what is read, written, scaled and shipped.
#include "fairway/pipeline/recipe/recipe.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/text.h"
#include "fairway/pipeline/recipe/recipe_schema.h"
#include "support/folder.h"

namespace fairway::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Recipe read(std::string_view text, const RecipeOptions& options = {}) {
  return parse_recipe(text, "r.toml", "/folder", options).recipe;
}

TEST(Recipe, AnEmptyFileIsTheDefaults) {
  Recipe expected;
  expected.name = "r";
  EXPECT_EQ(read(""), expected);
}

TEST(Recipe, ReadsEveryType) {
  const auto r = read(
      "name = \"x\"\nseed = 7\n[model]\nsoftcap = 15\nsmear = false\nve_layers = [3]\nmlp_mult = 2.5\n"
      "[data]\ntrain = [\"a/*.txt\", \"/b.jsonl\"]\nslices = 4\n[train]\nbatch_tokens = 8192\n");
  EXPECT_EQ(r.name, "x");
  EXPECT_EQ(r.seed, 7);
  EXPECT_EQ(r.model.softcap, 15.0f);
  EXPECT_FALSE(r.model.smear);
  EXPECT_THAT(r.model.ve_layers, ElementsAre(3));
  EXPECT_EQ(r.model.mlp_mult, 2.5);
  EXPECT_THAT(r.data.train, ElementsAre("/folder/a/*.txt", "/b.jsonl"));
  EXPECT_EQ(r.train.batch_tokens, 8192);
}

TEST(Recipe, PathsGoWhereTheSystemGoes) {
  fairway::testing::Folder folder;
  std::filesystem::create_directories(folder / "real/deep");
  std::filesystem::create_directory_symlink("real/deep", folder / "link");
  base::write_file(folder / "real/t.txt", std::string_view("meant"));
  base::write_file(folder / "t.txt", std::string_view("another"));
  const auto r =
      parse_recipe("[data]\ntrain = [\"link/../t.txt\", \"./real/../t.txt\"]", "r.toml", folder.path())
          .recipe;
  EXPECT_EQ(base::read_text_file(r.data.train[0]), "meant");
  EXPECT_EQ(r.data.train[1], folder("t.txt"));
  const auto again = parse_recipe(to_toml(r), "r.toml", "/").recipe;
  EXPECT_EQ(again.data.train, r.data.train) << "the resolved recipe means the same";
}

TEST(Recipe, WhatIsNotUtf8IsRefusedBeforeTheWork) {
  for (const char* set : {"data.train=caf\xe9.txt", "data.tokenizer=caf\xe9.model", "generate.prompt=\xff",
                          "name=\xc3", "data.field=\x80", "train.init=\xe9/x.safetensors"})
    EXPECT_THAT([&] { read("", {.set = {set}}); }, ::testing::ThrowsMessage<base::Error>(::testing::AllOf(
                                                       HasSubstr("--set"), HasSubstr("UTF-8"))));
  EXPECT_THROW(parse_recipe("", "caf\xe9.toml", "/folder"), base::Error) << "the name comes from the file's";
  LoadedRecipe loaded;
  loaded.source = "caf\xe9.toml";
  EXPECT_EQ(base::invalid_utf8_at(to_toml(loaded)), std::nullopt);
}

TEST(Recipe, OverridesComeLastAndInOrder) {
  const auto r =
      read("[train]\nsteps = 5", {.set = {"train.steps=6", "train.steps=7", "generate.prompt=a = b",
                                          "data.train=x.txt", "model.ln_scale=false", "optim.beta2=0.9"},
                                  .seed = 3});
  EXPECT_EQ(r.train.steps, 7);
  EXPECT_EQ(r.generate.prompt, "a = b");
  EXPECT_THAT(r.data.train, ElementsAre((std::filesystem::current_path() / "x.txt").string()));
  EXPECT_FALSE(r.model.ln_scale);
  EXPECT_EQ(r.optim.beta2, 0.9);
  EXPECT_EQ(r.seed, 3);
}

/// Puts a random allowed value into a key.
class Randomise {
 public:
  Randomise(const RecipeKey& key, std::mt19937_64& random) : key_(key), random_(random) {}
  void operator()(bool* v) const { *v = random_() % 2 == 0; }
  void operator()(int* v) const { *v = static_cast<int>(real()); }
  void operator()(std::int64_t* v) const { *v = static_cast<std::int64_t>(real()); }
  void operator()(float* v) const { *v = static_cast<float>(real()); }
  void operator()(double* v) const { *v = real(); }
  void operator()(std::string* v) const { *v = (key_.is_path ? "/" : "") + text(); }
  void operator()(const Choice& v) const {
    EXPECT_TRUE(v.set(v.place, key_.choices[random_() % key_.choices.size()])) << key_.name;
  }
  void operator()(std::vector<int>* v) const {
    v->assign(random_() % 4, 0);
    for (int& item : *v) (*this)(&item);
  }
  void operator()(std::vector<double>* v) const {
    v->assign(random_() % 4, 0);
    for (double& item : *v) (*this)(&item);
  }
  void operator()(std::vector<std::string>* v) const {
    v->assign(random_() % 3, "");
    for (auto& item : *v) item = "/" + text();
  }

 private:
  double real() const { return std::uniform_real_distribution(key_.low, key_.high)(random_); }
  std::string text() const {
    static const std::vector<std::string> parts = {"a", "\"", "\\",   "\n",   "\t", "#", "=",
                                                   "é", "☃",  "\x01", "\x7f", "'",  " "};
    std::string out = "t";
    for (auto n = random_() % 12; n > 0; --n) out += parts[random_() % parts.size()];
    return out;
  }
  const RecipeKey& key_;
  std::mt19937_64& random_;
};

// Random values break rules between keys, so this reads one key at a time into defaults.
TEST(Recipe, WhatIsWrittenReadsBackTheSame) {
  std::mt19937_64 random(1);
  int compared = 0;
  for (const auto& key : recipe_keys()) {
    for (int round = 0; round < 50; ++round) {
      Recipe recipe;
      recipe.name = "n";
      std::visit(Randomise(key, random), key.value(recipe));
      try {
        validate(recipe);
      } catch (const std::exception&) {
        continue;
      }
      const auto text = to_toml(recipe);
      // As from a model file: without what a run checks besides (rules that fit the model's tensors).
      ASSERT_EQ(parse_recipe(text, "r.toml", "", {}).recipe, recipe) << key.name << "\n" << text;
      ++compared;
    }
  }
  EXPECT_GT(compared, 2000);
}

TEST(Recipe, EveryKeyIsWrittenOnceAndFound) {
  Recipe recipe;
  const auto text = to_toml(recipe);
  EXPECT_EQ(std::count(text.begin(), text.end(), '='), static_cast<std::ptrdiff_t>(recipe_keys().size()));
  Recipe other = recipe;
  other.train.steps += 1;
  other.model.ve_layers = {1};
  EXPECT_THAT(changed_keys(recipe, other), ElementsAre("model.ve_layers", "train.steps"));
}

TEST(Recipe, PortableTextSaysNothingOfTheMachine) {
  const auto recipe =
      read("[data]\ntrain = [\"secret/a.txt\", \"builtin:demo.txt\"]\ntokenizer = \"b/c.model\"");
  const auto text = to_portable_toml(recipe);
  EXPECT_THAT(text, HasSubstr("train = [\"a.txt\", \"builtin:demo.txt\"]"));
  EXPECT_THAT(text, HasSubstr("tokenizer = \"c.model\""));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("secret")));
}

/// Without its test-time training.
Recipe as_trained(const std::string& name) {
  auto recipe = load_recipe(name).recipe;
  recipe.adapt = {};
  return recipe;
}

// docs/spec/ttt.md section 1.
TEST(BuiltinRecipes, HoldThePublishedTestTimeTraining) {
  auto of = [](const char* name) { return load_recipe(name).recipe.adapt; };
  const auto pr417 = of("two_phase_ttt"), pr398 = of("ema_ttt20"), pr573 = of("streaming_min3"),
             pr518 = of("cosine_ttt50");
  for (const auto& a : {pr417, pr398, pr573, pr518}) {
    EXPECT_EQ(a.virtual_ranks, 8);
    EXPECT_EQ(a.tables, tensor::DType::bf16);
    EXPECT_EQ(a.phases[0].rule.weight_decay, 0);
    EXPECT_EQ(a.phases[0].rule.beta2, 0.999);
  }
  EXPECT_EQ(pr417.phases[0].lr, 0.01);
  EXPECT_EQ(pr417.phases[0].grad_clip, 0);
  EXPECT_EQ(pr417.phases[0].epochs, 50);
  EXPECT_EQ(pr417.batch_windows, 64);
  EXPECT_EQ(pr417.phases[1].epochs, 10);
  EXPECT_EQ(pr417.phases[1].lr, 0.005);
  EXPECT_EQ(pr417.phases[1].grad_clip, 0);
  EXPECT_EQ(pr398.phases[0].rule.kind, optim::RuleKind::sgd);
  EXPECT_EQ(pr398.phases[0].lr, 0.008);
  EXPECT_EQ(pr398.phases[0].epochs, 20);
  EXPECT_FALSE(pr398.fake_quantize);
  EXPECT_EQ(pr573.pass_lr, (std::vector<double>{0, 1, 1}));
  EXPECT_TRUE(pr573.rotate && pr573.fake_quantize && pr417.fake_quantize && pr518.fake_quantize);
  EXPECT_EQ(pr573.chunk_windows, 16);
  EXPECT_EQ(pr518.phases[0].lr, 0.0005);
  EXPECT_EQ(pr518.phases[0].epochs, 50);
  EXPECT_EQ(pr518.phases[0].schedule, adapt::Schedule::cosine_steps);
  for (const char* name :
       {"two_phase_ttt_valid", "ema_ttt20_valid", "streaming_min3_valid", "cosine_ttt50_valid"}) {
    const auto recipe = load_recipe(name).recipe;
    EXPECT_EQ(recipe.adapt.when, adapt::When::score_first) << name;
    EXPECT_FALSE(recipe.adapt.fake_quantize) << name;
    EXPECT_EQ(recipe.score.tail, score::Tail::clean) << name;
  }
}

// A switch of a published system must not change by accident: the numbers of
// docs/spec/training.md section 13.
TEST(BuiltinRecipes, HoldThePublishedValues) {
  const auto rec = as_trained("rec"), pr417 = as_trained("two_phase_ttt"), pr398 = as_trained("ema_ttt20"),
             pr573 = as_trained("streaming_min3"), pr518 = as_trained("cosine_ttt50"),
             base = as_trained("base");
  EXPECT_EQ(rec.model.activation, model::Activation::relu_square);
  EXPECT_EQ(pr518.model.activation, model::Activation::leaky_square);
  EXPECT_THAT(changed_keys(rec, pr573),
              ElementsAre("name", "description", "model.activation", "train.planned_steps", "score.stride"));
  EXPECT_THAT(changed_keys(pr573, pr518),
              ElementsAre("name", "description", "train.planned_steps", "score.stride"));
  EXPECT_THAT(changed_keys(rec, pr417),
              ElementsAre("name", "description", "train.planned_steps", "train.warmdown_steps",
                          "average.kind", "qat.below", "quant.matrix", "quant.prune", "score.stride"));
  EXPECT_THAT(changed_keys(rec, pr398),
              ElementsAre("name", "description", "model.ve_dim", "model.ve_layers", "model.xsa_layers",
                          "train.steps", "train.planned_steps", "train.warmdown_steps", "train.log_every",
                          "train.validate_every", "qat.attention", "qat.mlp", "qat.other", "qat.below",
                          "qat.last_fraction", "qat.inert", "quant.matrix"));
  EXPECT_EQ(pr417.quant.policy.prune.share, 0.02);
  EXPECT_EQ(pr417.score.stride, 32);
  EXPECT_EQ(pr398.train.warmdown_steps, 3000);
  EXPECT_EQ(rec.train.batch_tokens, 786'432);
  EXPECT_EQ(rec.optim.grad_clip, 0.3);
  EXPECT_EQ(base.train.batch_tokens, 524'288);
  EXPECT_EQ(base.optim.matrix_lr, 0.04);
  EXPECT_EQ(base.model.rope_dims, base.model.head_dim());
  EXPECT_EQ(base.optim.grad_clip, 0);
}

class EachBuiltin : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(EachBuiltin, LoadsAtEveryScaleAndResolvesToItself) {
  const auto& [name, scale] = GetParam();
  const auto loaded = load_recipe(name, {.scale = scale});
  EXPECT_EQ(loaded.recipe.name, name);
  EXPECT_FALSE(loaded.recipe.description.empty());
  EXPECT_EQ(parse_recipe(to_toml(loaded), "resolved.toml", "/elsewhere").recipe, loaded.recipe);
}

std::vector<std::string> builtin_names() {
  std::vector<std::string> names;
  for (const auto& builtin : builtin_recipes()) names.emplace_back(builtin.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, EachBuiltin,
                         ::testing::Combine(::testing::ValuesIn(builtin_names()),
                                            ::testing::Values("tiny", "small", "full")),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + std::get<1>(test.param);
                         });

TEST(BuiltinRecipes, TheDemoComesFirstAndItsTextIsInside) {
  ASSERT_FALSE(builtin_recipes().empty());
  EXPECT_EQ(builtin_recipes().front().name, "demo");
  const auto text = builtin_text("builtin:demo.txt");
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(*text, base::read_text_file(FAIRWAY_DATA_DIR "/demo/demo.txt"));
  EXPECT_FALSE(builtin_text("/demo.txt").has_value());
  EXPECT_ANY_THROW(builtin_text("builtin:dem.txt"));
}

TEST(BuiltinRecipes, TheResolvedDemoIsAsItWas) {
  const auto text = to_toml(load_recipe("demo", {.scale = "tiny"}));
  const std::string golden = FAIRWAY_GOLDEN_DIR "/demo_tiny_resolved.toml";
  EXPECT_EQ(text, base::read_text_file(golden))
      << "when the change is meant: fairway recipes demo --scale tiny > " << golden;
}

TEST(Scale, EverythingCountedInStepsKeepsItsProportion) {
  const auto full = load_recipe("rec").recipe;
  const auto loaded = load_recipe("rec", {.scale = "tiny"});
  const auto& tiny = loaded.recipe;
  const double factor = static_cast<double>(tiny.train.steps) / full.train.planned_steps;
  EXPECT_FALSE(tiny.train.by_clock());
  EXPECT_EQ(tiny.train.warmdown_steps, std::lround(full.train.warmdown_steps * factor));
  EXPECT_EQ(tiny.optim.muon_momentum.steps, std::lround(full.optim.muon_momentum.steps * factor));
  EXPECT_EQ(tiny.train.log_every, std::lround(full.train.log_every * factor));
  EXPECT_EQ(tiny.average.swa_every, 1) << "never 0: what was on stays on";
  // As many half-lives in the short run as in the long one.
  EXPECT_NEAR(tiny.train.steps * std::log(tiny.average.decay),
              full.train.planned_steps * std::log(full.average.decay), 1e-6);
  // PR 414's bigram projection is exactly at the limit, and stays there.
  EXPECT_EQ(tiny.quant.policy.passthrough_limit, tiny.model.width * tiny.model.bigram_dim);
  EXPECT_LT(tiny.train.batch_tokens, full.train.batch_tokens);
  EXPECT_THAT(tiny.model.ve_layers, ElementsAre(2, 3));  // of 4, as 9 and 10 of 11
  EXPECT_THAT(to_toml(loaded), HasSubstr("warmdown_steps = 20  # 3500 before --scale tiny"));
}

TEST(Scale, APartOfTheTrainingKeepsTheModel) {
  const auto full = load_recipe("cosine_ttt50").recipe;
  const auto loaded = load_recipe("cosine_ttt50", {.scale = "0.2"});
  const auto& part = loaded.recipe;
  EXPECT_TRUE(part.train.by_clock());
  EXPECT_DOUBLE_EQ(part.train.seconds, 120);
  EXPECT_DOUBLE_EQ(part.budget.train_seconds, 120);
  EXPECT_DOUBLE_EQ(part.budget.eval_seconds, full.budget.eval_seconds);
  EXPECT_EQ(part.train.planned_steps, 1187);
  EXPECT_EQ(part.train.warmdown_steps, 700);
  EXPECT_EQ(part.optim.muon_momentum.steps, 300);
  EXPECT_NEAR(part.average.decay, std::pow(0.997, 5), 1e-12);
  EXPECT_EQ(part.model.width, full.model.width);
  EXPECT_EQ(part.train.batch_tokens, full.train.batch_tokens);
  EXPECT_EQ(part.adapt.phases[0].epochs, full.adapt.phases[0].epochs);
  EXPECT_THAT(to_toml(loaded), HasSubstr("warmdown_steps = 700  # 3500 before --scale 0.2"));
}

TEST(Scale, WhatIsSetStands) {
  const auto tiny = load_recipe("rec", {.set = {"train.steps=3", "model.layers=11", "model.xsa_layers=[]"},
                                        .scale = "tiny"})
                        .recipe;
  EXPECT_EQ(tiny.train.steps, 3);
  EXPECT_EQ(tiny.model.layers, 11);
}

TEST(Scale, WhatIsSmallAlreadyStays) {
  const auto before = load_recipe("demo", {.scale = "tiny"}).recipe;
  const auto again = parse_recipe(to_toml(before), "r.toml", "/", {.scale = "tiny"}).recipe;
  EXPECT_EQ(again, before);
}

// Every key is documented; the tables of the page are this text.
TEST(RecipeDocs, ThePageHoldsTheTableOfTheSchema) {
  const auto page = base::read_text_file(FAIRWAY_SOURCE_DIR "/docs/recipes.md");
  EXPECT_THAT(page, HasSubstr(recipe_keys_markdown())) << "fairway recipes --keys prints it";
}

}  // namespace
}  // namespace fairway::pipeline
