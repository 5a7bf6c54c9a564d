// The C interface, loaded at run time as foreign-function interfaces do it.
#include "library.h"

#include <fairway/fairway_c.h>

#include <dlfcn.h>
#include <gmock/gmock.h>

#include <array>
#include <cstring>

namespace fairway::test {
namespace {

using ::testing::HasSubstr;

/// A function of the shared object by its plain name.
template <class F>
F* symbol(F*, const char* name) {
  static void* const library = dlopen(FAIRWAY_LIBRARY, RTLD_NOW);
  return library == nullptr ? nullptr : reinterpret_cast<F*>(dlsym(library, name));
}
#define FAIRWAY_LOAD(name)                  \
  const auto name = symbol(&::name, #name); \
  ASSERT_NE(name, nullptr) << #name

struct Message {
  std::array<char, 200> text = {};
  operator char*() { return text.data(); }
  static constexpr std::size_t size = 200;
};

TEST(CInterface, OpensScoresEncodesAndGenerates) {
  FAIRWAY_LOAD(fairway_version);
  FAIRWAY_LOAD(fairway_open);
  FAIRWAY_LOAD(fairway_close);
  FAIRWAY_LOAD(fairway_vocab_size);
  FAIRWAY_LOAD(fairway_encode);
  FAIRWAY_LOAD(fairway_score);
  FAIRWAY_LOAD(fairway_logits);
  FAIRWAY_LOAD(fairway_generate);
  EXPECT_EQ(fairway_version(), version());
  Message error;
  fairway_model* model = nullptr;
  ASSERT_EQ(fairway_open(model_path().c_str(), 1, &model, error, Message::size), 0) << error.text.data();
  const auto same = Model::open(model_path());
  EXPECT_EQ(fairway_vocab_size(model), same.vocab_size());

  const auto expected = same.encode(kText);
  std::vector<std::int32_t> ids(4, -7);
  std::size_t count = 0;
  ASSERT_EQ(fairway_encode(model, kText.data(), kText.size(), ids.data(), 3, &count, error, Message::size),
            0);
  EXPECT_EQ(count, expected.size()) << "the number needed";
  EXPECT_EQ(ids[2], expected[2]);
  EXPECT_EQ(ids[3], -7) << "never more than the capacity";

  fairway_score_result score = {};
  ASSERT_EQ(fairway_score(model, kText.data(), kText.size(), 0, &score, error, Message::size), 0);
  EXPECT_EQ(score.loss, same.score(kText, {.stride = 0}).loss);
  EXPECT_EQ(score.bytes, static_cast<std::int64_t>(kText.size()));
  EXPECT_EQ(score.valid, 1);

  std::vector<float> logits(static_cast<std::size_t>(same.vocab_size()));
  ASSERT_EQ(fairway_logits(model, expected.data(), 5, logits.data(), error, Message::size), 0);
  EXPECT_EQ(logits, same.logits(std::span(expected).first(5)));

  std::array<char, 300> text = {};
  ASSERT_EQ(fairway_generate(model, "The ", 20, 0, 0, 1, text.data(), text.size(), error, Message::size), 0);
  const auto whole = same.generate("The ", {.tokens = 20, .temperature = 0, .top_k = 0, .seed = 1});
  EXPECT_EQ(std::string(text.data()), whole);
  text.fill('#');
  ASSERT_EQ(fairway_generate(model, "The ", 20, 0, 0, 1, text.data(), 5, error, Message::size), 0);
  EXPECT_EQ(std::string(text.data()), whole.substr(0, 4));
  EXPECT_EQ(text[5], '#');
  EXPECT_EQ(fairway_generate(model, nullptr, 2, 0, 0, 1, text.data(), text.size(), error, Message::size), 0)
      << "no prompt";
  fairway_close(model);
  fairway_close(nullptr);
}

TEST(CInterface, NoExceptionCrosses) {
  FAIRWAY_LOAD(fairway_open);
  FAIRWAY_LOAD(fairway_close);
  FAIRWAY_LOAD(fairway_score);
  FAIRWAY_LOAD(fairway_logits);
  FAIRWAY_LOAD(fairway_generate);
  Message error;
  fairway_model* model = reinterpret_cast<fairway_model*>(&error);
  EXPECT_EQ(fairway_open("none.fairway", 1, &model, error, Message::size), 2);
  EXPECT_EQ(model, nullptr);
  EXPECT_THAT(std::string(error), HasSubstr("none.fairway"));
  EXPECT_EQ(fairway_open("none.fairway", 1, &model, nullptr, 0), 2);
  error.text.fill('#');
  EXPECT_EQ(fairway_open("none.fairway", 1, &model, error, 8), 2);
  EXPECT_EQ(std::strlen(error), 7u) << "cut, but always terminated";
  EXPECT_EQ(error.text[8], '#');

  ASSERT_EQ(fairway_open(model_path().c_str(), 1, &model, error, Message::size), 0);
  fairway_score_result score = {};
  EXPECT_EQ(fairway_score(model, "", 0, 0, &score, error, Message::size), 2);
  EXPECT_EQ(fairway_score(model, "\xff", 1, 0, &score, error, Message::size), 2);
  EXPECT_THAT(std::string(error), HasSubstr("UTF-8"));
  const std::int32_t wrong[] = {-1};
  float logits[1];
  EXPECT_EQ(fairway_logits(model, wrong, 1, logits, error, Message::size), 2);
  std::array<char, 8> text = {};
  EXPECT_EQ(fairway_generate(model, "x", -1, 0, 0, 1, text.data(), text.size(), error, Message::size), 2);
  fairway_close(model);
}

TEST(CInterface, PythonUsesItThroughCtypes) {
  if (std::system("python3 -c 'import ctypes' > /dev/null 2>&1") != 0)
    GTEST_SKIP() << "SKIPPED: python3 is not there; the C interface was tested through dlopen only";
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "SKIPPED: python3 cannot load a library built with the address sanitizer";
#endif
  const auto command = std::string("python3 '") + FAIRWAY_CTYPES_SCRIPT + "' '" + FAIRWAY_LIBRARY + "' '" +
                       model_path() + "' 'Some text, na\xc3\xafve.'";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace fairway::test
