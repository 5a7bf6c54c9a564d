// Bits per byte of whole texts, and the decode program against the score program.
#include "fairway/base/text.h"
#include "fairway/pipeline/stages/generate.h"
#include "fairway/score/ppm.h"
#include "fairway/text/byte_table.h"
#include "fairway/text/stream_decoder.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

namespace fairway::pipeline::testing {
namespace {

using ::testing::HasSubstr;

/// Demo text, tokenizer and an untrained model, made once for each test program.
struct Scene {
  explicit Scene(int threads = 2, std::vector<std::string> more = {})
      : engine(with_threads(threads)),
        recipe(small_recipe(std::move(more))),
        corpus(prepare_corpus(recipe, engine)),
        model(fresh_model(recipe, corpus.tokenizer, engine)) {
    // Large enough that tokens get very different probabilities.
    for (auto& v : model.weights->value("tok_emb.weight").span<float>()) v *= 60;
  }
  score::ScoreResult score(int stride, ScoreConfig options = {.tokens = 3000}) {
    return score_text(recipe.model, *model.weights, corpus.tokenizer, corpus.validation, options, stride,
                      engine);
  }
  Engine engine;
  Recipe recipe;
  Corpus corpus;
  OpenModel model;
};

TEST(Scoring, AModelThatKnowsNothingPaysLogV) {
  Scene s;
  s.model = fresh_model(s.recipe, s.corpus.tokenizer, s.engine, true);
  const auto all = s.score(0, {});
  EXPECT_EQ(all.tokens, static_cast<std::int64_t>(s.corpus.validation.tokens.size()) - 1);
  EXPECT_EQ(all.bytes, static_cast<std::int64_t>(s.corpus.validation.text.size())) << "every byte, each once";
  EXPECT_NEAR(all.loss, std::log(320.0), 1e-5);
  EXPECT_NEAR(all.bits_per_byte,
              static_cast<double>(all.tokens) * std::log2(320.0) / static_cast<double>(all.bytes), 1e-5);
  EXPECT_EQ(all.rule, "exact");
  EXPECT_EQ(all.verdict.text(), "valid");
}

TEST(Scoring, WindowsSideBySideAreSlidingOnesWithTheWindowAsStride) {
  Scene s;
  const auto plain = s.score(0), sliding = s.score(s.recipe.model.window);
  EXPECT_EQ(plain.nll, sliding.nll);
  EXPECT_EQ(plain.bytes, sliding.bytes);
  EXPECT_EQ(plain.tokens, 3000);
}

/// Attention inside documents: plain windows never cut one that fits, so that each is scored as if it stood
/// alone, and a longer one in pieces from its own beginning.
TEST(Scoring, DocumentsScoreAsIfEachStoodAlone) {
  Scene s(2, {"model.documents=true", "model.smear=false", "model.bigram_rows=0",
              "data.min_document_bytes=300", "data.train_bytes=60000"});
  const auto& tokens = s.corpus.validation.tokens;
  const auto whole = s.score(0, {});
  EXPECT_TRUE(whole.by_documents);
  EXPECT_FALSE(s.score(64).by_documents);
  EXPECT_EQ(whole.verdict.text(), "valid");
  const auto begins = [&](std::size_t i) { return tokens[i] == s.recipe.model.bos_id; };
  int documents = 0, pieces = 0;
  double nll = 0;
  for (std::size_t first = 0, end = 1; first + 1 < tokens.size(); first = end++) {
    while (end + 1 < tokens.size() && !begins(end)) ++end;
    ScoredText alone;  // with the token behind it, which its last position predicts
    alone.tokens.assign(tokens.begin() + static_cast<std::ptrdiff_t>(first),
                        tokens.begin() + static_cast<std::ptrdiff_t>(end) + 1);
    nll += score_text(s.recipe.model, *s.model.weights, s.corpus.tokenizer, alone, {}, 0, s.engine).nll;
    ++documents;
    pieces += static_cast<int>(end - first) > s.recipe.model.window;
  }
  EXPECT_NEAR(nll, whole.nll, 1e-6 * whole.nll);
  EXPECT_GT(documents, 2);
  EXPECT_GT(pieces, 0) << "one is longer than a window";
}

TEST(Scoring, AWindowLongerThanTrainedGivesMoreContext) {
  Scene s;
  const auto trained = s.score(0), longer = s.score(0, {.window = 256, .tokens = 3000});
  EXPECT_EQ(std::tuple(longer.window, longer.tokens, longer.bytes),
            std::tuple(256, trained.tokens, trained.bytes));
  EXPECT_EQ(longer.verdict.text(), "valid");
  EXPECT_NE(longer.nll, trained.nll);
  EXPECT_FLOAT_EQ(s.score(0, {.window = 256, .tokens = 128}).nll, s.score(0, {.tokens = 128}).nll)
      << "the first window sees the same";
}

TEST(Scoring, EveryStrideScoresEveryTokenOnce) {
  Scene s;
  const auto plain = s.score(0);
  for (const int stride : {1, 7, 64, 127}) {
    const auto r = s.score(stride, {.tokens = stride == 1 ? 200 : 3000});
    EXPECT_EQ(r.tokens, stride == 1 ? 200 : 3000) << stride;
    EXPECT_EQ(r.verdict.text(), "valid") << stride;
    if (stride == 1) continue;
    EXPECT_EQ(r.bytes, plain.bytes) << stride;
    EXPECT_NE(r.nll, plain.nll) << "context must matter";
  }
}

TEST(Scoring, DocumentsAddUp) {
  Scene s;
  const auto r = s.score(64);
  ASSERT_GT(r.documents.size(), 1u);
  double nll = 0;
  std::int64_t tokens = 0, bytes = 0;
  for (const auto& d : r.documents) {
    nll += d.nll;
    tokens += d.tokens;
    bytes += d.bytes;
  }
  EXPECT_NEAR(nll, r.nll, 1e-6 * r.nll);
  EXPECT_EQ(tokens, r.tokens);
  EXPECT_EQ(bytes, r.bytes);
}

TEST(Scoring, ACountModelIsPartOfSlidingScoresOnly) {
  Scene s;
  s.model = fresh_model(s.recipe, s.corpus.tokenizer, s.engine, true);  // 1/V for every token
  const double weight = 0.25;
  const auto blended = s.score(64, {.tokens = 3000, .ppm_weight = weight});
  score::PpmC counts(s.recipe.model.vocab_size);
  double expected = 0;
  for (std::size_t i = 0; i < 3000; ++i) {
    const auto before = s.corpus.validation.tokens[i], token = s.corpus.validation.tokens[i + 1];
    const double uniform = 1.0 / s.recipe.model.vocab_size;
    expected -= std::log((1 - weight) * uniform + weight * counts.probability(token, before));
    counts.add(token, before);
  }
  EXPECT_NEAR(blended.nll, expected, 1e-5 * expected);
  EXPECT_LT(blended.nll, 0.95 * 3000 * std::log(320.0)) << "counts know more than nothing";
  EXPECT_EQ(blended.verdict.text(), "valid");
  EXPECT_THAT(blended.verdict.notes, ::testing::Contains(HasSubstr("0.25 of each distribution")));
  EXPECT_EQ(s.score(0, {.tokens = 3000, .ppm_weight = weight}).nll, s.score(0).nll);
  EXPECT_THAT(input_error([] {
                small_recipe({"score.ppm_weight=0.05", "score.stride=0"});
              }),
              HasSubstr("score.ppm_weight = 0.05: is part of sliding scores only"));
}

TEST(Scoring, MemoryTokensLeaveNoTargetOut) {
  Scene s;
  s.recipe = small_recipe({"model.memory_tokens=5", "generate.tokens=0", "adapt.when=\"never\""});
  s.model = fresh_model(s.recipe, s.corpus.tokenizer, s.engine, true);
  for (const int stride : {0, 64}) {
    const auto all = s.score(stride, {});
    EXPECT_EQ(all.tokens, static_cast<std::int64_t>(s.corpus.validation.tokens.size()) - 1);
    EXPECT_EQ(all.bytes, static_cast<std::int64_t>(s.corpus.validation.text.size()));
    EXPECT_EQ(all.verdict.text(), "valid");
  }
  exec::ModelRunner runner(s.recipe.model, *s.model.weights, s.engine);
  EXPECT_THAT(input_error([&] { Decoder decoder(runner); }), HasSubstr("does not generate"));
  const auto refused = [](std::string_view more) {
    return input_error([&] {
      small_recipe({"model.memory_tokens=5", "adapt.when=\"never\"", "generate.tokens=0", std::string(more)});
    });
  };
  EXPECT_THAT(refused("score.stride=128"), HasSubstr("scores its last 123 tokens only"));
  EXPECT_THAT(refused("score.tail=\"published\""), HasSubstr("not with model.memory_tokens"));
  EXPECT_THAT(refused("generate.tokens=9"), HasSubstr("does not generate"));
}

TEST(Scoring, ThreadsChangeNoBit) {
  Scene one(1), two(2), three(3);
  EXPECT_EQ(weights_of(*one.model.weights), weights_of(*two.model.weights));
  const auto expected = one.score(64).nll;
  EXPECT_EQ(two.score(64).nll, expected);
  EXPECT_EQ(three.score(64).nll, expected);
}

TEST(Scoring, PublishedTailIsNotedAndTheRuleIsNamed) {
  Scene s;
  const auto published =
      s.score(64, {.tail = score::Tail::published, .rule = text::ByteRule::challenge, .tokens = 1000});
  EXPECT_EQ(published.rule, "challenge");
  EXPECT_FALSE(published.verdict.notes.empty()) << "scoring targets twice must be said";
  EXPECT_EQ(published.tokens, 7 * 128 + 64) << "whole windows only, and the last stride again";
}

TEST(Scoring, AStopRequestEndsIt) {
  std::stop_source source;
  auto options = with_threads(1);
  options.stop = source.get_token();
  Engine engine(options);
  const auto recipe = small_recipe();
  const auto corpus = prepare_corpus(recipe, engine);
  auto model = fresh_model(recipe, corpus.tokenizer, engine);
  source.request_stop();
  const auto said = error_of(base::ErrorKind::interrupted, [&] {
    score_text(recipe.model, *model.weights, corpus.tokenizer, corpus.validation, {}, 0, engine);
  });
  EXPECT_THAT(said, HasSubstr("stopped after 0 of"));
}

/// -log softmax(logits)[target].
double nll_of(std::span<const float> logits, std::int32_t target) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float z : logits) sum += std::exp(static_cast<double>(z) - top);
  return top + std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
}

TEST(Decoder, ReadsTokenByTokenWhatTheScoreProgramReadsAtOnce) {
  Scene s;
  const int window = s.recipe.model.window;
  exec::ModelRunner runner(s.recipe.model, *s.model.weights, s.engine);
  exec::WindowPrograms scorer(runner);
  scorer.add(window);
  runner.allocate();
  const auto n = static_cast<std::size_t>(scorer.rows() * window);
  std::vector<std::int32_t> inputs(n), targets(n);
  std::vector<float> nll(n);
  const auto& tokens = s.corpus.validation.tokens;
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = i / static_cast<std::size_t>(window), column = i % static_cast<std::size_t>(window);
    inputs[i] = tokens[row * 37 + column];
    targets[i] = tokens[row * 37 + column + 1];
  }
  scorer.score(inputs, targets, window, nll);
  Decoder decoder(runner);
  for (std::size_t row = 0; row < 2; ++row) {
    decoder.reset();
    // A prompt through the chunked program, the rest one by one.
    const std::size_t prompt = row == 0 ? 70 : 1;
    const auto at = row * static_cast<std::size_t>(window);
    auto logits = decoder.feed(std::span(inputs).subspan(at, prompt));
    for (std::size_t i = prompt - 1; i < static_cast<std::size_t>(window); ++i) {
      ASSERT_NEAR(nll_of(logits, targets[at + i]), static_cast<double>(nll[at + i]), 2e-4)
          << "position " << i;
      if (i + 1 < static_cast<std::size_t>(window))
        logits = decoder.feed(std::span(inputs).subspan(at + i + 1, 1));
    }
  }
}

TEST(Decoder, AFullCacheGoesOnFromItsLastHalf) {
  Scene s;
  const auto window = static_cast<std::size_t>(s.recipe.model.window);
  std::vector<std::int32_t> text(s.corpus.validation.tokens.begin(),
                                 s.corpus.validation.tokens.begin() + 400);
  exec::ModelRunner runner(s.recipe.model, *s.model.weights, s.engine);
  Decoder decoder(runner);
  decoder.feed(std::span(text).first(window));
  const auto over = decoder.feed(std::span(text).subspan(window, 1));
  const std::vector<float> after(over.begin(), over.end());
  decoder.reset();
  const auto fresh = decoder.feed(std::span(text).subspan(window + 1 - window / 2, window / 2));
  EXPECT_EQ(after, std::vector<float>(fresh.begin(), fresh.end()));
  decoder.reset();
  EXPECT_EQ(decoder.feed(text).size(), 320u) << "a prompt longer than the window";
}

GenerateOptions options_of(std::uint64_t seed, std::string prompt = "The Mole had been") {
  GenerateOptions o;
  o.tokens = 60;
  o.seed = seed;
  o.temperature = 8;  // the model is sure of itself
  o.prompt = std::move(prompt);
  return o;
}

TEST(Generate, TheSeedDecidesAndNothingElse) {
  Scene s(1), other(3);
  const auto a = generate(s.model, options_of(5), s.engine);
  EXPECT_EQ(a.tokens, generate(other.model, options_of(5), other.engine).tokens);
  EXPECT_NE(a.tokens, generate(s.model, options_of(6), s.engine).tokens);
  EXPECT_EQ(a.text, text::valid_utf8(s.corpus.tokenizer.decode(std::span<const std::int32_t>(a.tokens))));
  EXPECT_FALSE(a.text.empty());
}

TEST(Generate, ColdOrNarrowSamplingTakesTheMostLikely) {
  Scene s;
  auto cold = options_of(1), narrow = options_of(2);
  cold.temperature = 0;
  narrow.top_k = 1;
  const auto text = generate(s.model, cold, s.engine).text;
  EXPECT_EQ(text, generate(s.model, narrow, s.engine).text);
  EXPECT_NE(text, generate(s.model, options_of(2), s.engine).text);
}

TEST(Generate, PiecesOfTextAddUpAndAreUtf8) {
  Scene s;
  auto o = options_of(3, "Naïve café: ");
  o.tokens = 200;  // longer than the window
  o.temperature = 2;
  o.top_k = 0;
  std::string shown;
  o.on_text = [&](std::string_view part) { shown += part; };
  const auto made = generate(s.model, o, s.engine);
  EXPECT_EQ(made.text, shown);
  EXPECT_EQ(base::invalid_utf8_at(made.text), std::nullopt);
}

TEST(Generate, RowsWithoutAPieceAreNotDrawn) {
  Scene s;
  auto recipe = s.model.recipe;
  recipe.model.vocab_size += 40;
  auto model = fresh_model(recipe, s.corpus.tokenizer, s.engine, true);  // all rows alike
  auto o = options_of(1);
  o.top_k = 0;
  for (const auto id : generate(model, o, s.engine).tokens) EXPECT_LT(id, model.tokenizer.vocab_size());
}

TEST(Generate, DamagedWeightsAreSaid) {
  Scene s;
  auto model = fresh_model(s.model.recipe, s.corpus.tokenizer, s.engine);
  for (auto& v : model.weights->value("tok_emb.weight").span<float>()) v = std::nanf("");
  EXPECT_THAT(error_of(base::ErrorKind::failure, [&] { generate(model, options_of(1), s.engine); }),
              HasSubstr("not finite"));
}

TEST(Generate, NamesWrongOptions) {
  Scene s;
  auto said = [&](auto change) {
    auto o = options_of(1);
    change(o);
    return input_error([&] { generate(s.model, o, s.engine); });
  };
  EXPECT_THAT(said([](auto& o) { o.temperature = -1; }), HasSubstr("--temperature -1"));
  EXPECT_THAT(said([](auto& o) { o.temperature = std::nan(""); }), HasSubstr("--temperature nan"));
  EXPECT_THAT(said([](auto& o) { o.temperature = HUGE_VAL; }), HasSubstr("--temperature inf"));
  EXPECT_THAT(said([](auto& o) { o.top_k = -1; }), HasSubstr("--top-k -1"));
  EXPECT_THAT(said([](auto& o) { o.tokens = 0; }), HasSubstr("--tokens 0"));
  EXPECT_THAT(said([](auto& o) { o.prompt = "\xff"; }), HasSubstr("--prompt"));
}

}  // namespace
}  // namespace fairway::pipeline::testing
