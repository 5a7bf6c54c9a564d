// Every way a recipe can be wrong, with the exact place and words the user sees.
#include <gmock/gmock.h>

#include "fairway/base/error.h"
#include "fairway/pipeline/recipe/recipe.h"

namespace fairway::pipeline {
namespace {

std::string error_of(std::string_view text, const RecipeOptions& options = {}) {
  try {
    parse_recipe(text, "r.toml", "/folder", options);
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::input);
    return error.what();
  }
  return "no error";
}

struct Case {
  const char* name;
  const char* text;
  const char* error;
};

class RecipeMistake : public testing::TestWithParam<Case> {};

TEST_P(RecipeMistake, NamesPlaceKeyAndRemedy) { EXPECT_EQ(error_of(GetParam().text), GetParam().error); }

const Case kCases[] = {
    {"UnknownKey", "[train]\n  step = 5",
     "r.toml:2:3: unknown key 'train.step' (did you mean 'train.steps'?)"},
    {"UnknownKeyFarFromAll", "[train]\nzzzzzzzzz = 5", "r.toml:2:1: unknown key 'train.zzzzzzzzz'"},
    {"UnknownTable", "[trian]\nsteps = 5", "r.toml:1:2: unknown table 'trian' (did you mean '[train]'?)"},
    {"KeyWithoutItsTable", "steps = 5", "r.toml:1:1: unknown key 'steps' (did you mean 'train.steps'?)"},
    {"KeyInTheWrongTable", "[optim]\nwarmdown_steps = 3",
     "r.toml:2:1: unknown key 'optim.warmdown_steps' (did you mean 'train.warmdown_steps'?)"},
    {"TextForInteger", "[train]\nsteps = \"many\"", "r.toml:2:9: train.steps: expected integer, found text"},
    {"FractionForInteger", "[train]\nsteps = 1.5",
     "r.toml:2:9: train.steps: expected integer, found a number with a fraction"},
    {"DateForInteger", "[train]\nsteps = 1979-05-27",
     "r.toml:2:9: train.steps: expected integer, found a date or time"},
    {"IntegerForBoolean", "[model]\nsmear = 1",
     "r.toml:2:9: model.smear: expected true or false, found an integer"},
    {"IntegerForText", "name = 3", "r.toml:1:8: name: expected text, found an integer"},
    {"TextForList", "[model]\nxsa_layers = \"1\"",
     "r.toml:2:14: model.xsa_layers: expected list of integers, found text"},
    {"WrongItemInList", "[model]\nxsa_layers = [1, 2.5]",
     "r.toml:2:14: model.xsa_layers: expected list of integers, found a list with other things in it"},
    {"TableForKey", "[train.steps]\na = 1", "r.toml:1:1: train.steps: expected integer, found a table"},
    {"KeyForTable", "train = 5", "r.toml:1:1: train: expected a table, found an integer"},
    {"DecayOfOne", "[average]\ndecay = 1.0", "r.toml:2:9: average.decay = 1: must be 0 to 0.9999999"},
    {"SeedBeyondDoubles", "seed = 9007199254740993",
     "r.toml:1:8: seed = 9007199254740993: must be 0 to 9007199254740992"},
    {"LargestInteger", "[score]\ntokens = 9223372036854775807",
     "r.toml:2:10: score.tokens = 9223372036854775807: must be 0 to 1000000000000000"},
    {"BeyondFloat", "[model]\nsoftcap = 1e300", "r.toml:2:11: model.softcap = inf: must be 0.001 to 1000000"},
    {"Infinite", "[optim]\nmatrix_lr = inf", "r.toml:2:13: optim.matrix_lr = inf: must be 0 to 10"},
    {"InfiniteInList", "[adapt]\npass_lr = [1, inf]",
     "r.toml:2:11: adapt.pass_lr = [1, inf]: must be 0 to 1000000"},
    {"RuleThatFitsNothing", "[quant]\nrules = [\"blocks.99.*=int8\"]",
     "r.toml:2:9: quant.rules: 'blocks.99.*' fits no tensor of this model; `fairway inspect --tensors` lists "
     "them"},
    {"MisspeltRule", "[quant]\nrules = [\"tok_em.weight=int8\"]",
     "r.toml:2:9: quant.rules: 'tok_em.weight' fits no tensor of this model (did you mean "
     "'tok_emb.weight'?); "
     "`fairway inspect --tensors` lists them"},
    {"RuleBehindOthers", "[quant]\nrules = [\"*=int8\", \"blocks.0.*=int6_rowmax\"]",
     "r.toml:2:9: quant.rules: 'blocks.0.*' is never used, as rules before it fit all its tensors; put it "
     "first"},
    {"StandardInputTwice", "[data]\ntrain = [\"-\"]\nvalidation = [\"-\"]",
     "r.toml:2:9: data.train, data.validation: standard input (-) can be read once only"},
    {"NegativeSize", "[model]\nwidth = -512", "r.toml:2:9: model.width = -512: must be 8 to 65536"},
    {"OutOfRange", "[optim]\nbeta1 = 1.0", "r.toml:2:9: optim.beta1 = 1: must be 0 to 0.99999"},
    {"BeyondInt", "[train]\nsteps = 99999999999",
     "r.toml:2:9: train.steps = 99999999999: must be 0 to 1000000000"},
    {"NotANumber", "[model]\nsoftcap = nan", "r.toml:2:11: model.softcap = nan: must be 0.001 to 1000000"},
    {"OutOfRangeInList", "[model]\nve_layers = [-1]",
     "r.toml:2:13: model.ve_layers = [-1]: must be 0 to 255"},
    {"UnknownChoice", "[model]\nactivation = \"relu_squar\"",
     "r.toml:2:14: model.activation = \"relu_squar\": must be one of relu_square, leaky_square (did you mean "
     "'relu_square'?)"},
    {"HeadsDoNotDivide", "[model]\nheads = 7",
     "r.toml:2:9: model.heads = 7 does not divide model.width = 512; choose a divisor"},
    {"BatchIsNoMultiple", "[model]\nwindow = 1000",
     "r.toml:2:10: train.batch_tokens = 786432: must be a multiple of data.slices x model.window = 8 x 1000 "
     "= 8000"},
    {"MicroBatchDoesNotDivide", "[train]\nmicro_batch = 7",
     "r.toml:2:15: train.micro_batch = 7: does not divide the 384 windows of a step"},
    {"StrideBeyondWindow", "[score]\nstride = 2049",
     "r.toml:2:10: score.stride = 2049: larger than model.window = 2048, tokens would go unscored"},
    {"StrideBeyondItsOwnWindow", "[score]\nwindow = 32",
     "r.toml:2:10: score.stride = 64: larger than score.window = 32, tokens would go unscored"},
    {"WindowOfOneToken", "[score]\nwindow = 1\nstride = 0",
     "r.toml:2:10: score.window = 1: too short; at least 2, and more than model.memory_tokens = 0"},
    {"NothingScored", "[score]\nplain = false\nstride = 0",
     "r.toml:2:9: score.plain = false: with score.stride = 0 nothing is scored; switch one of them on"},
    {"QatOfOneBit", "[qat]\nmlp = 1", "r.toml:2:7: qat.mlp = 1: must be 0 (not quantised) or 2 to 8 bits"},
    {"QatOfOneBitElsewhere", "[qat]\nattention = 6\nother = 1",
     "r.toml:3:9: qat.other = 1: must be 0 (not quantised) or 2 to 8 bits"},
    {"NothingToValidateOn", "[data]\nholdout_every = 0",
     "r.toml:2:17: data.holdout_every = 0: nothing to validate on; give data.validation or a number above 1"},
    {"NothingToTrainOn", "[data]\ntrain = []",
     "r.toml:2:9: data.train = []: name at least one text or shard"},
    {"ShardsWithoutTokenizer", "[data]\ntrain = [\"a_*.bin\"]\ntokenizer = \"\"",
     "r.toml:3:13: data.tokenizer = \"\": the shards '/folder/a_*.bin' need the tokenizer they were made "
     "with"},
    {"VocabularyTooSmallToTrain", "[model]\nvocab_size = 200",
     "r.toml:2:14: model.vocab_size = 200: a tokenizer trained on the spot needs at least 300"},
    // The first mistake of the file is the one told, not the first in the alphabet.
    {"FirstOfTheFile", "[train]\nstepz = 1\n[model]\nlayerz = 1",
     "r.toml:2:1: unknown key 'train.stepz' (did you mean 'train.steps'?)"},
};
INSTANTIATE_TEST_SUITE_P(All, RecipeMistake, testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

TEST(RecipeBorder, TheLastValueThatIsAllowed) {
  for (const char* text : {"[score]\nstride = 2048", "[score]\nplain = false\nstride = 1", "[qat]\nmlp = 2",
                           "[qat]\nmlp = 0", "[model]\nvocab_size = 300"})
    EXPECT_EQ(error_of(text), "no error") << text;
}

// The words are the TOML library's; place and prefix are ours.
TEST(RecipeError, BrokenTomlIsPlaced) {
  using testing::StartsWith;
  EXPECT_THAT(error_of("[train]\nsteps = 5\nsteps = 6"), StartsWith("r.toml:3:9: broken TOML: "));
  EXPECT_THAT(error_of("[train\nsteps = 5"), StartsWith("r.toml:1:7: broken TOML: "));
  EXPECT_THAT(error_of("name = \"\xff\""), StartsWith("r.toml:1:8: broken TOML: "));
  EXPECT_THAT(error_of("[train]\nsteps ="), StartsWith("r.toml:2:"));
  EXPECT_THAT(error_of(std::string(2 << 20, '#')), testing::HasSubstr("a recipe of 2097152 bytes"));
  EXPECT_THAT(error_of("a = " + std::string(100'000, '[')), StartsWith("r.toml:1:"));
}

TEST(RecipeSet, ErrorsNameTheOption) {
  EXPECT_EQ(error_of("", {.set = {"train.steps=abc"}}),
            "--set train.steps=abc: train.steps: expected integer, found 'abc'");
  EXPECT_EQ(error_of("", {.set = {"train.step=3"}}),
            "--set train.step=3: unknown key 'train.step' (did you mean 'train.steps'?)");
  EXPECT_EQ(error_of("", {.set = {"train.steps"}}),
            "--set train.steps: expected KEY=VALUE, for example train.steps=100");
  EXPECT_EQ(error_of("", {.set = {"train.steps=-1"}}),
            "--set train.steps=-1: train.steps = -1: must be 0 to 1000000000");
  EXPECT_EQ(error_of("", {.set = {"train.batch_tokens=3"}}),
            "--set train.batch_tokens=3: train.batch_tokens = 3: must be a multiple of data.slices x "
            "model.window = "
            "8 x 2048 = 16384");
  EXPECT_EQ(
      error_of("", {.set = {"model.xsa_layers=[1,200]"}}),
      "--set model.xsa_layers=[1,200]: model.xsa_layers names layer 200, but the model has layers 0 to 10");
  EXPECT_THAT(error_of("", {.set = {"train.steps=3\nx=4"}}), testing::EndsWith("one value expected"));
}

TEST(RecipeSet, TextsMustBeUtf8) {
  RecipeOptions options;
  options.set = {"generate.prompt=caf\xE9"};
  EXPECT_EQ(
      error_of("", options),
      "--set generate.prompt=caf\xE9: generate.prompt: not valid UTF-8 at byte 3; give the text in UTF-8");
}

TEST(RecipeSet, NamesHaveALimit) {
  EXPECT_EQ(error_of("name = \"" + std::string(240, 'n') + "\""), "no error");
  EXPECT_EQ(error_of("name = \"" + std::string(241, 'n') + "\""),
            "r.toml:1:8: name: 241 bytes are too long for the name of a folder, at most 240");
}

TEST(RecipeSet, StandardInputIsNoPath) {
  RecipeOptions options;
  options.set = {"data.train=-"};
  EXPECT_EQ(parse_recipe("", "r.toml", "/folder", options).recipe.data.train, std::vector<std::string>{"-"});
}

TEST(RecipeError, RulesOfAModelFileAreAsTheyWere) {
  EXPECT_NO_THROW(parse_recipe("[quant]\nrules = [\"blocks.99.*=int8\"]", "m.fairway (recipe)", {}));
}

TEST(RecipeScale, RulesGoWithTheirTensors) {
  const auto recipe = parse_recipe("[quant]\nrules = [\"blocks.8.*=int8\", \"blocks.*=int6_rowmax\"]\n",
                                   "r.toml", "", {.set = {}, .scale = "tiny", .seed = {}})
                          .recipe;
  EXPECT_EQ(recipe.quant.rules, std::vector<std::string>{"blocks.*=int6_rowmax"});
}

TEST(RecipeSet, AnOverrideCanMakeTheFileWhole) {
  EXPECT_EQ(error_of("[model]\nwindow = 1000", {.set = {"train.batch_tokens=8000", "score.stride=500"}}),
            "no error");
}

TEST(RecipeLoad, NamesWhatIsMissing) {
  auto error = [](const std::string& name) {
    try {
      load_recipe(name);
    } catch (const base::Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(error("dem"),
              testing::StartsWith("no built-in recipe 'dem' (did you mean 'demo'?); there are demo, "));
  EXPECT_THAT(error("/nowhere/x.toml"), testing::HasSubstr("/nowhere/x.toml"));
  EXPECT_EQ(
      error_of("", {.scale = "tinny"}),
      "--scale tinny: must be tiny, small, full, or the part of the training to run, as 0.2 for a fifth "
      "(did you mean 'tiny'?)");
  for (const auto* part : {"0", "1", "1.5", "-0.2", "nan", "0.2x", ""})
    EXPECT_THAT(error_of("", {.scale = part}), testing::HasSubstr("as 0.2 for a fifth")) << part;
  EXPECT_EQ(error_of("", {.seed = -1}), "--seed: seed = -1: must be 0 to 9007199254740992");
}

}  // namespace
}  // namespace fairway::pipeline
