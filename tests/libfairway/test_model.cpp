// The C++ interface.
#include "allocations.h"
#include "library.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <numeric>

namespace fairway::test {
namespace {

using ::testing::HasSubstr;

TEST(Library, ScoresATextByteForByte) {
  const auto model = Model::open(model_path());
  const auto plain = model.score(kText, {.stride = 0});
  EXPECT_EQ(plain.bytes, static_cast<std::int64_t>(kText.size()));
  EXPECT_EQ(plain.tokens, static_cast<std::int64_t>(model.encode(kText).size()));
  EXPECT_EQ(plain.verdict, "valid");
  EXPECT_EQ(plain.rule, "exact");
  EXPECT_LT(plain.loss, std::log(model.vocab_size()));
  EXPECT_NEAR(
      plain.bits_per_byte,
      plain.loss / std::log(2.0) * static_cast<double>(plain.tokens) / static_cast<double>(plain.bytes),
      1e-9);
  EXPECT_EQ(model.score(kText, {.stride = 0}).loss, plain.loss) << "a second call";
  const auto one = Model::open(model_path(), {.threads = 1});
  EXPECT_EQ(one.score(kText, {.stride = 0}).loss, plain.loss) << "threads never matter";
}

TEST(Library, ALongTextIsScoredToItsEnd) {
  std::string text;
  while (text.size() < 6000) text += kText + " ";
  const auto model = Model::open(model_path());
  EXPECT_EQ(model.score(text).bytes, static_cast<std::int64_t>(text.size()))
      << "score.tokens of the recipe was for the run";
}

TEST(Library, LogitsAreTheDistributionThatScoresCount) {
  const auto model = Model::open(model_path());
  const std::string text = "The Mole had";
  const auto ids = model.encode(text);
  EXPECT_EQ(model.decode(ids), text);
  std::vector<std::int32_t> seen = {1};  // <s>
  double nll = 0;
  for (const auto id : ids) {
    const auto logits = model.logits(seen);
    ASSERT_EQ(static_cast<int>(logits.size()), model.vocab_size());
    double sum = 0;
    for (const float z : logits) sum += std::exp(static_cast<double>(z));
    nll += std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
    seen.push_back(id);
  }
  const auto score = model.score(text, {.stride = 0});
  EXPECT_NEAR(nll / static_cast<double>(ids.size()), score.loss, 1e-3);
}

TEST(Library, ASecondCallBuildsNothing) {
  const auto model = Model::open(model_path());
  const std::vector<std::int32_t> seen = {1, 30, 40}, other = {1, 50};
  const auto cost = [](auto&& call) {
    const int before = allocations();
    call();
    return allocations() - before;
  };
  std::vector<float> first, again;
  const int building = cost([&] { first = model.logits(seen); });
  EXPECT_GT(building, 1000) << "the count misses the library's allocations";
  model.logits(other);
  EXPECT_LT(cost([&] { again = model.logits(seen); }), building / 20);
  EXPECT_EQ(again, first) << "what was read before left something behind";
  const int scoring = cost([&] { model.score(kText); });
  EXPECT_LT(cost([&] { model.score(kText); }), scoring / 2);
  EXPECT_LT(cost([&] { model.generate("The ", {.tokens = 1}); }), building / 2) << "logits has its programs";
  EXPECT_EQ(model.logits(seen), first);
}

TEST(Library, GeneratesTheSameTextForASeed) {
  const auto model = Model::open(model_path());
  GenerateOptions options;
  options.tokens = 30;
  options.temperature = 1;
  options.seed = 5;
  std::string shown;
  options.on_text = [&](std::string_view part) { shown += part; };
  const auto text = model.generate("The ", options);
  EXPECT_EQ(text.substr(0, shown.size()), shown);
  EXPECT_FALSE(text.empty());
  EXPECT_EQ(model.generate("The ", options), text);
  options.seed = 6;
  EXPECT_NE(model.generate("The ", options), text);
}

TEST(Library, ModelsMoveAndSayWhatTheyAre) {
  auto first = Model::open(model_path());
  auto second = std::move(first);
  first = Model::open(model_path());
  EXPECT_EQ(second.vocab_size(), 320);
  EXPECT_EQ(second.window(), 128);
  EXPECT_GT(second.parameters(), 50'000);
  EXPECT_THAT(second.recipe(), HasSubstr("vocab_size = 320"));
  EXPECT_EQ(first.score(kText).loss, second.score(kText).loss);
  EXPECT_THAT(version(), ::testing::StartsWith("fairway "));
}

TEST(Library, ExportsSafetensors) {
  Folder folder;
  Model::open(model_path()).export_safetensors(folder("m.safetensors"));
  EXPECT_GT(std::filesystem::file_size(folder("m.safetensors")), 200'000u);
  auto options = quick_options();
  options.set.push_back("train.init=" + folder("m.safetensors"));
  options.set.push_back("train.steps=1");
  EXPECT_THAT(train("demo", folder("again"), options), HasSubstr("\"bits_per_byte\""));
}

TEST(Library, TrainingReportsStepsAndStopsOnRequest) {
  Folder folder;
  auto options = quick_options();
  std::vector<std::int64_t> steps;
  std::stop_source source;
  options.on_step = [&](const TrainStep& s) {
    steps.push_back(s.step);
    EXPECT_EQ(s.total, 20);
    EXPECT_GT(s.loss, 0);
    if (s.step == 7) source.request_stop();
  };
  EXPECT_EQ(code_of([&] { train("demo", folder("run"), options, source.get_token()); }), 130);
  std::vector<std::int64_t> expected(7);
  std::iota(expected.begin(), expected.end(), 1);
  EXPECT_EQ(steps, expected);
  options.resume = true;
  const auto result = train("demo", folder("run"), options);
  EXPECT_EQ(steps.back(), 20);
  EXPECT_EQ(train("demo", folder("run"), options), result) << "a finished run is only reported";
  auto bytes = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_EQ(bytes(folder("run/model.fairway")), bytes(model_path())) << "as a run that was never stopped";
}

TEST(Library, EveryFailureIsAnErrorWithItsCode) {
  Folder folder;
  const auto model = Model::open(model_path());
  EXPECT_EQ(code_of([&] { Model::open(folder("none.fairway")); }), 2);
  std::ofstream(folder("text.fairway")) << "this is no model";
  EXPECT_EQ(code_of([&] { Model::open(folder("text.fairway")); }), 2);
  EXPECT_EQ(code_of([&] { Model::open(""); }), 2);
  EXPECT_EQ(code_of([&] { model.score(""); }), 2);
  EXPECT_EQ(code_of([&] { model.score("\xff"); }), 2);
  EXPECT_EQ(code_of([&] { model.logits({}); }), 2);
  const std::vector<std::int32_t> wrong = {1, 320};
  EXPECT_EQ(code_of([&] { model.logits(wrong); }), 2);
  EXPECT_EQ(code_of([&] { model.decode(wrong); }), 2);
  EXPECT_EQ(code_of([&] { model.generate("x", {.tokens = 0}); }), 2);
  EXPECT_EQ(code_of([&] { train("no-such-recipe", folder("x")); }), 2);
  auto options = quick_options();
  options.set.push_back("model.widht=3");
  EXPECT_EQ(code_of([&] { train("demo", folder("x"), options); }), 2);
  EXPECT_EQ(code_of([&] { model.export_safetensors(folder("no/such/folder/m.safetensors")); }), 2);
  std::stop_source source;
  source.request_stop();
  EXPECT_EQ(code_of([&] { model.score(kText, {}, source.get_token()); }), 130);
  EXPECT_EQ(code_of([&] { model.generate("The", {}, source.get_token()); }), 130);
}

}  // namespace
}  // namespace fairway::test
