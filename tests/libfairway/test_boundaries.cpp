// What the public interface does at its edges: a stride of 0, and messages cut at any length.
#include "library.h"

#include <fairway/fairway_c.h>

#include <dlfcn.h>
#include <gmock/gmock.h>

#include <cstring>

namespace fairway::test {
namespace {

TEST(Library, AStrideOfZeroMeansWindowsSideBySide) {
  const auto model = Model::open(model_path());
  std::string text;
  while (text.size() < 3000) text += kText + " ";
  const auto plain = model.score(text, {.stride = 0});
  EXPECT_EQ(plain.loss, model.score(text, {.stride = model.window()}).loss) << "which is what that is";
  const auto recipes = model.score(text), sliding = model.score(text, {.stride = 64});
  EXPECT_NE(plain.loss, recipes.loss) << "the recipe's stride has context";
  EXPECT_NE(plain.loss, sliding.loss);
  EXPECT_EQ(plain.tokens, recipes.tokens);
  EXPECT_EQ(plain.tokens, static_cast<std::int64_t>(model.encode(text).size()));
}

/// Bytes of the well-formed characters that `text` begins with.
std::size_t whole_characters(std::string_view text, std::size_t limit) {
  std::size_t n = 0;
  while (n < text.size()) {
    const auto lead = static_cast<unsigned char>(text[n]);
    const std::size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (n + size > limit) break;
    n += size;
  }
  return n;
}

TEST(CInterface, MessagesAreCutBetweenCharactersAtEveryCapacity) {
  void* const library = dlopen(FAIRWAY_LIBRARY, RTLD_NOW);
  ASSERT_NE(library, nullptr);
  const auto open = reinterpret_cast<decltype(&fairway_open)>(dlsym(library, "fairway_open"));
  ASSERT_NE(open, nullptr);
  // Characters of two, three and four bytes, in the name of a file that isn't there.
  const std::string name = "na\xC3\xAFve \xE2\x98\x83 \xF0\x9F\x98\x80\xF0\x9F\x98\x80.fairway";
  fairway_model* model = nullptr;
  std::string whole(400, '\0');
  ASSERT_EQ(open(name.c_str(), 1, &model, whole.data(), whole.size()), 2);
  whole.resize(std::strlen(whole.c_str()));
  ASSERT_NE(whole.find(name), std::string::npos) << whole;
  for (std::size_t capacity = 1; capacity <= whole.size() + 2; ++capacity) {
    std::string said(capacity + 4, '#');
    ASSERT_EQ(open(name.c_str(), 1, &model, said.data(), capacity), 2);
    const std::string text(said.c_str());
    EXPECT_EQ(text, whole.substr(0, whole_characters(whole, capacity - 1))) << capacity;
    EXPECT_EQ(said.substr(capacity), "####") << "nothing is written behind it";
  }
}

TEST(CInterface, AScoreThatIsNoCodeLengthIsNotValid) {
  // A tokenizer that normalises: of the two bytes of \u00BD it makes "1\u20442", and counts five.
  Folder folder;
  auto options = quick_options();
  for (const auto* key : {"model.vocab_size=1024", "train.steps=1", "train.warmdown_steps=1"})
    options.set.emplace_back(key);
  options.set.emplace_back("data.tokenizer=" FAIRWAY_DATA_DIR "/tokenizers/fineweb_1024_bpe.model");
  train("demo", folder("run"), options);
  const auto path = folder("run/model.fairway");
  void* const library = dlopen(FAIRWAY_LIBRARY, RTLD_NOW);
  ASSERT_NE(library, nullptr);
  const auto open = reinterpret_cast<decltype(&fairway_open)>(dlsym(library, "fairway_open"));
  const auto close = reinterpret_cast<decltype(&fairway_close)>(dlsym(library, "fairway_close"));
  const auto score = reinterpret_cast<decltype(&fairway_score)>(dlsym(library, "fairway_score"));
  fairway_model* model = nullptr;
  ASSERT_EQ(open(path.c_str(), 1, &model, nullptr, 0), 0);
  for (const auto& [text, valid] :
       {std::pair<std::string, int>{"one half of it", 1}, {"\xC2\xBD and \xC2\xBD and \xC2\xBD", 0}}) {
    fairway_score_result result = {};
    ASSERT_EQ(score(model, text.data(), text.size(), 0, &result, nullptr, 0), 0);
    EXPECT_EQ(result.valid, valid) << text << ": " << Model::open(path).score(text, {.stride = 0}).verdict;
  }
  close(model);
}

}  // namespace
}  // namespace fairway::test
