// What the program says and with which code it ends, before any model is involved.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "program.h"

namespace fairway::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

struct Mistake {
  const char* name;
  std::vector<std::string> arguments;
  const char* error;  ///< the whole of standard error, or its beginning
};

class Usage : public ::testing::TestWithParam<Mistake> {};

TEST_P(Usage, IsOneLineAndExitCodeTwo) {
  Folder folder;
  const auto said = fairway(folder, GetParam().arguments);
  EXPECT_EQ(said.code, 2);
  EXPECT_EQ(said.out, "");
  EXPECT_THAT(said.err, StartsWith(std::string("fairway: error: ") + GetParam().error));
  EXPECT_EQ(std::count(said.err.begin(), said.err.end(), '\n'), 1) << said.err;
}

const Mistake kMistakes[] = {
    {"NoCommand", {}, "a command is missing; see fairway --help"},
    {"UnknownCommand", {"rn"}, "unknown command 'rn' (did you mean 'run'?); see fairway --help"},
    {"NoSubcommand", {"tokenizer"}, "a command is missing; see fairway tokenizer --help"},
    {"UnknownOption",
     {"run", "--resum"},
     "unknown option '--resum' (did you mean '--resume'?); see fairway run --help"},
    {"UnknownOptionOfASubcommand",
     {"data", "build", "x", "--tokenizer", "y", "--out", "z", "--feild=text"},
     "unknown option '--feild' (did you mean '--field'?); see fairway data build --help"},
    {"ExtraArgument", {"doctor", "now"}, "unexpected argument 'now'; see fairway doctor --help"},
    {"MissingArgument", {"inspect"}, "file is required; see fairway inspect --help"},
    {"NotANumber", {"run", "--threads", "two"}, ""},
    {"UnknownIsa",
     {"doctor", "--isa", "avx1"},
     "--isa avx1: must be auto, scalar, avx2, avx512 or avx512_bf16"},
    {"UnknownDevice", {"doctor", "--device", "tpu"}, "--device tpu: must be auto, cpu, cuda or cuda:N"},
    {"UnknownRecipe", {"run", "dmeo"}, "no built-in recipe 'dmeo' (did you mean 'demo'?); there are demo, "},
    {"MissingRecipeFile", {"run", "no/such.toml"}, "cannot open no/such.toml: No such file"},
    {"BadKey",
     {"run", "demo", "--set", "train.step=1"},
     "--set train.step=1: unknown key 'train.step' (did you mean 'train.steps'?)"},
    {"BadScale",
     {"recipes", "demo", "--scale", "tny"},
     "--scale tny: must be tiny, small, full, or the part of the training to run, as 0.2 for a fifth (did "
     "you mean "
     "'tiny'?)"},
    {"ResumeWithoutFolder", {"run", "demo", "--resume"}, "--resume: say which run with --out FOLDER"},
    {"MissingModel", {"inspect", "none.fairway"}, "cannot open none.fairway: No such file"},
    {"NothingToScore",
     {"score", "none.fairway"},
     "score: give the text to score, either --text FILE or --shards GLOB"},
    {"TextTakesOneValue",
     {"score", "--text", "a.txt", "none.fairway"},
     "cannot open none.fairway: No such file"},
    {"ShardsTakeOneValue",
     {"verify", "--shards", "a.bin", "none.fairway"},
     "cannot open none.fairway: No such file"},
    {"SeveralTextsAreRepeated",
     {"score", "none.fairway", "--text", "a.txt", "b.txt"},
     "unexpected argument 'b.txt' (to give several, repeat --text or --shards); see fairway score --help"},
    {"TemperatureOfNoNumber",
     {"generate", "none.fairway", "--temperature", "nan"},
     "--temperature: nan must be 0 to 100; see fairway generate --help"},
    {"TemperatureWithoutEnd",
     {"generate", "none.fairway", "--temperature", "inf"},
     "--temperature: inf must be 0"},
    {"NegativeTemperature",
     {"generate", "none.fairway", "--temperature", "-1"},
     "--temperature: -1 must be 0"},
    {"NegativeTopK", {"generate", "none.fairway", "--top-k", "-1"}, "--top-k: "},
    {"OctalTokens", {"generate", "none.fairway", "--tokens", "010"}, "--tokens: 010 must be a whole number"},
    {"NegativeTokens", {"generate", "none.fairway", "--tokens", "-1"}, "--tokens: "},
    {"NegativeSeed",
     {"generate", "none.fairway", "--seed", "-1"},
     "--seed: -1 must be a whole number from 0 to 9007199254740992; see fairway generate --help"},
    {"SeedBeyond64Bits", {"run", "--seed", "99999999999999999999"}, "--seed: 99999999999999999999 must be"},
    {"SeedBeyondDoubles", {"run", "--seed", "9007199254740993"}, "--seed: 9007199254740993 must be"},
    {"TokensBeyond64Bits",
     {"score", "x", "--text", "y", "--tokens", "99999999999999999999"},
     "--tokens: 999"},
    {"PercentOfNoNumber",
     {"data", "build", "x", "--tokenizer", "y", "--out", "z", "--val-percent", "nan"},
     "--val-percent: nan must be 0 to 100"},
    {"CoverageOfNoNumber",
     {"tokenizer", "train", "x", "--out", "y", "--coverage", "nan"},
     "--coverage: nan must be"},
    {"StandardInputTwice",
     {"tokenizer", "train", "-", "-", "--out", "t.model"},
     "-: standard input can be read once only"},
    {"FolderWithoutAModel", {"inspect", "."}, ".: a folder without model.fairway or checkpoint.fwck"},
    {"MissingText", {"tokenizer", "train", "none.txt", "--out", "t.model"}, "none.txt"},
    {"MissingShards", {"data", "info", "none_*.bin"}, "none_*.bin: no such file"},
    {"NameTooLong", {"run", "--scale", "tiny", "--out", std::string(300, 'n')}, "cannot use nnnnn"},
    {"NameThatIsNotUtf8",
     {"run", "--set", "data.tokenizer=/caf\xe9.model"},
     "--set data.tokenizer=/caf\\xE9.model: data.tokenizer = \"/caf\\xE9.model\": not UTF-8; rename"},
    {"PromptThatIsNotUtf8", {"run", "--set", "generate.prompt=\xff"}, "--set generate.prompt=\\xFF: "},
    {"AFolderIsNoRecipe", {"run", "./"}, "./: a folder, not a recipe; --resume continues the run in it"},
    {"NotTheFolderOfARun", {"run", "./", "--resume"}, "./: no recipe.toml; it is not the folder of a run"},
    {"NewlineInAnArgument",
     {"run", "--set", "train.steps=1\nx=2"},
     "--set train.steps=1\\nx=2: one value expected"},
};
INSTANTIATE_TEST_SUITE_P(All, Usage, ::testing::ValuesIn(kMistakes),
                         [](const auto& test) { return test.param.name; });

TEST(Program, OverwritesNoInput) {
  Folder folder;
  const std::string text = "A text that is its owner's.\n";
  base::write_file(folder / "mine.txt", std::string_view(text));
  std::filesystem::create_symlink("mine.txt", folder / "soft.txt");
  std::filesystem::create_hard_link(folder / "mine.txt", folder / "hard.txt");
  for (const char* out : {"mine.txt", "./mine.txt", "soft.txt", "hard.txt"}) {
    const auto said = fairway(folder, {"tokenizer", "train", "m*.txt", "--out", out});
    EXPECT_EQ(said.code, 2) << out;
    EXPECT_THAT(said.err, HasSubstr("this is the input mine.txt"));
    EXPECT_EQ(base::read_text_file(folder / "mine.txt"), text);
  }
}

TEST(Program, LinksInACircleAreNamed) {
  Folder folder;
  std::filesystem::create_symlink("loop", folder / "loop");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"run", "--scale", "tiny", "--out", "loop/x"},
        {"run", "--scale", "tiny", "--out", "loop"},
        {"run", "loop", "--resume"},
        {"run", "--replay", "loop", "--out", "x"},
        {"score", "loop", "--text", "x.txt"},
        {"pack", "loop", "--out", "x"},
        {"export", "loop", "--out", "x"},
        {"inspect", "loop"},
        {"adapt", "loop"},
        {"data", "info", "loop"},
        {"tokenizer", "info", "loop"},
        {"tokenizer", "train", "loop", "--out", "x"}}) {
    const auto said = fairway(folder, command);
    EXPECT_EQ(said.code, 2) << command[0] << ": " << said.err;
    EXPECT_THAT(said.err, ::testing::Not(HasSubstr("filesystem"))) << command[0];
    EXPECT_EQ(std::count(said.err.begin(), said.err.end(), '\n'), 1) << said.err;
  }
}

TEST(Program, SaysErrorsInJsonToo) {
  Folder folder;
  const auto said = fairway(folder, {"run", "dmeo", "--json"});
  EXPECT_EQ(said.code, 2);
  const auto json = Json::parse(said.out);
  EXPECT_EQ(json["error"]["kind"], "input");
  EXPECT_EQ(json["error"]["exit_code"], 2);
  EXPECT_THAT(json["error"]["message"].get<std::string>(), HasSubstr("did you mean 'demo'?"));
}

TEST(Program, SaysErrorsOfTheCommandLineItselfInJsonToo) {
  Folder folder;
  for (const std::vector<std::string>& mistake : {std::vector<std::string>{"run", "--nonsense", "--json"},
                                                  {"--json"},                             // no command
                                                  {"rn", "--json"},                       // an unknown one
                                                  {"tokenizer", "--json"},                // half of one
                                                  {"inspect", "--json"},                  // no argument
                                                  {"run", "--json", "--out"},             // no value
                                                  {"run", "--threads", "two", "--json"},  // a bad one
                                                  {"run", "--json", "--seed", "-1"},
                                                  {"score", "x", "--tokens", "010", "--json"}}) {
    const auto said = fairway(folder, mistake);
    const auto words = ::testing::PrintToString(mistake);
    EXPECT_EQ(said.code, 2) << words;
    const auto json = Json::parse(said.out, nullptr, false);
    ASSERT_TRUE(json.is_object()) << words << " printed: " << said.out;
    EXPECT_EQ(json["error"]["exit_code"], 2) << words;
    EXPECT_EQ(said.err, "fairway: error: " + json["error"]["message"].get<std::string>() + "\n") << words;
  }
}

TEST(Program, HelpAndVersion) {
  Folder folder;
  const auto help = fairway(folder, {"--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* command : {"run", "train", "pack", "score", "inspect", "export", "explain", "generate",
                              "tokenizer", "data", "doctor", "recipes"})
    EXPECT_THAT(help.out, HasSubstr(std::string("\n  ") + command));
  EXPECT_THAT(fairway(folder, {"tokenizer", "train", "--help"}).out, HasSubstr("--vocab-size"));
  const auto version = fairway(folder, {"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.out, ::testing::MatchesRegex("fairway [0-9]+\\.[0-9]+\\.[0-9]+.*\n"));
}

TEST(Program, RecipesAreInsideTheProgram) {
  Folder folder;
  const auto list = Json::parse(fairway(folder, {"recipes", "--json"}).out);
  EXPECT_EQ(list[0]["name"], "demo");
  EXPECT_GE(list.size(), 8u);
  const auto shown = fairway(folder, {"recipes", "demo", "--scale", "tiny"});
  EXPECT_EQ(shown.out, base::read_text_file(FAIRWAY_GOLDEN_DIR "/demo_tiny_resolved.toml"));
  base::write_file(folder / "again.toml", std::string_view(shown.out));
  const auto again = Json::parse(fairway(folder, {"recipes", "again.toml", "--json"}).out);
  EXPECT_EQ(again["values"],
            Json::parse(fairway(folder, {"recipes", "demo", "--scale", "tiny", "--json"}).out)["values"]);
}

TEST(Program, ARecipeFilesMistakeIsPlaced) {
  Folder folder;
  base::write_file(folder / "my.toml", std::string_view("[model]\n\nwidht = 64\n"));
  EXPECT_EQ(fairway(folder, {"run", "my.toml"}).err,
            "fairway: error: my.toml:3:1: unknown key 'model.widht' (did you mean 'model.width'?)\n");
}

TEST(Program, DoctorKnowsTheMachine) {
  Folder folder;
  const auto json =
      Json::parse(fairway(folder, {"doctor", "--json", "--isa", "scalar", "--threads", "2"}).out);
  EXPECT_EQ(json["cpu"]["kernels"], "scalar");
  EXPECT_EQ(json["cpu"]["threads"], 2);
  EXPECT_GT(json["memory"]["total_bytes"].get<std::uint64_t>(), 0u);
  for (const auto& [name, version] : json["libraries"].items())
    EXPECT_THAT(version.get<std::string>(), ::testing::MatchesRegex("[0-9]+\\..*")) << name;
  const auto text = fairway(folder, {"doctor"});
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.out, HasSubstr("libraries oneDNN "));
}

TEST(Program, TokenizerAndShardsThereAndBack) {
  Folder folder;
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += "Line " + std::to_string(i * 7919) + "  of a text with\ttabs, naïve words and more.\n\n";
  base::write_file(folder / "text.txt", std::string_view(text));
  auto said = fairway(
      folder, {"tokenizer", "train", "text.txt", "--out", "t.model", "--vocab-size", "330", "--json"});
  ASSERT_EQ(said.code, 0) << said.err;
  EXPECT_EQ(Json::parse(said.out)["vocab_size"], 330);
  EXPECT_EQ(Json::parse(said.out)["lossless"], true);
  const std::string sample = "  two  spaces, a\ttab\r\n and <s> ☃ ";
  const auto ids = fairway(folder, {"tokenizer", "encode", "t.model"}, sample).out;
  EXPECT_EQ(fairway(folder, {"tokenizer", "decode", "t.model"}, ids).out, sample);
  EXPECT_EQ(fairway(folder, {"tokenizer", "decode", "t.model"}, "5 6 x").code, 2);

  said = fairway(folder, {"data", "build", "text.txt", "--tokenizer", "t.model", "--out", "shards",
                          "--split-on", "blank-line", "--val-every", "10", "--json"});
  ASSERT_EQ(said.code, 0) << said.err;
  const auto info = Json::parse(fairway(folder, {"data", "info", "shards/*.bin", "--json"}).out);
  EXPECT_EQ(info["documents"], 400);
  EXPECT_EQ(info["shards"].size(), 2u);
}

TEST(Program, AnInputThatIsNotOurFileIsNamed) {
  Folder folder;
  base::write_file(folder / "x.fairway", std::string_view("not an artifact at all"));
  const auto said = fairway(folder, {"inspect", "x.fairway"});
  EXPECT_EQ(said.code, 2);
  EXPECT_THAT(said.err, StartsWith("fairway: error: x.fairway: "));
}

}  // namespace
}  // namespace fairway::test
