// data.fuse_markers from the recipe to the artifact.
#include "fairway/data/build.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/train/train_setup.h"
#include "stages.h"
#include "support/compare.h"
#include "support/corpus.h"
#include "support/safetensors.h"

#include <gmock/gmock.h>

namespace fairway::pipeline {
namespace {

using exec::Engine;
using ::testing::HasSubstr;
using testing::input_error, testing::small_recipe, testing::with_threads;

const std::string kModel =
    fairway::testing::data_path("tokenizers/fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model");

Recipe fused(std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"data.tokenizer=" + kModel, "model.vocab_size=8192", "data.fuse_markers=true"});
  return small_recipe(more);
}

std::vector<std::uint16_t> stream(const data::TokenStream& tokens) {
  std::vector<std::uint16_t> all(tokens.size());
  tokens.read(0, all);
  return all;
}

TEST(FusedMarkers, AreInTheTokensOfARun) {
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(fused(), engine);
  EXPECT_EQ(corpus.tokenizer.transform(), text::Transform::caseops_fused);
  auto expected = stream(prepare_corpus(fused({"data.fuse_markers=false"}), engine).train);
  corpus.tokenizer.marker_fusion()->fuse(expected);
  EXPECT_EQ(stream(corpus.train), expected);
  EXPECT_THAT(expected, ::testing::Contains(8));
}

TEST(FusedMarkers, TravelInTheArtifact) {
  Engine engine(with_threads(1));
  const auto tokenizer = text::Tokenizer::load(kModel).with_fused_markers();
  const auto section = tokenizer_section(tokenizer);
  EXPECT_EQ(section.transform, "caseops_fused");
  const auto back = tokenizer_from(section, "artifact");
  EXPECT_EQ(back.fingerprint(), tokenizer.fingerprint());
  EXPECT_EQ(back.decode(back.encode("I am IN")), "I am IN");
}

TEST(FusedMarkers, NeedAModelThatHasThem) {
  Engine engine(with_threads(1));
  EXPECT_THAT(input_error([&] { small_recipe({"data.fuse_markers=true"}); }),
              HasSubstr("data.case_operators = true too"));
  const auto sp1024 = fairway::testing::data_path("tokenizers/fineweb_1024_bpe.model").string();
  const auto other =
      small_recipe({"data.tokenizer=" + sp1024, "model.vocab_size=1024", "data.fuse_markers=true"});
  EXPECT_THAT(input_error([&] { prepare_corpus(other, engine); }), HasSubstr("markers cannot be fused"));
  const auto trained =
      prepare_corpus(small_recipe({"data.case_operators=true", "data.fuse_markers=true"}), engine);
  EXPECT_EQ(trained.tokenizer.transform(), text::Transform::caseops_fused_lossless_v1);
}

TEST(FusedMarkers, ShardsOfAnotherFusionAreRefused) {
  Engine engine(with_threads(1));
  testing::Folder folder;
  base::write_file(folder / "a.txt", std::string("Some Text OF Ours"));
  data::BuildOptions options;
  options.out = folder / "shards";
  options.validation_only = true;
  const auto plain = text::Tokenizer::load(kModel);
  data::build_shards({folder / "a.txt"}, plain.with_fused_markers(), options, engine.pool(),
                     engine.progress());
  const auto pattern = (folder / "shards/*.bin").string();
  EXPECT_THAT(input_error([&] { read_scored_text({pattern}, {}, plain, 8192, engine); }),
              HasSubstr("shards were made with tokenizer"));
  const auto text = read_scored_text({pattern}, {}, plain.with_fused_markers(), 8192, engine);
  EXPECT_EQ(std::accumulate(text.surface.begin(), text.surface.end(), 0), 17);
}

TEST(FusedMarkers, StartFromTheTokensThatTheyStandFor) {
  const auto golden = fairway::testing::read_safetensors(FAIRWAY_GOLDEN_DIR "/marker_fusion.safetensors");
  const auto sources = golden.floats("rows/float32/space_title_allcaps_capnext");
  const auto donors = golden.floats("rows/float32/donors_8_9_10");
  const auto row = [](std::span<const float> rows, std::size_t i) { return rows.subspan(i * 24, 24); };
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_LE(fairway::testing::max_relative(fused_row(row(sources, 0), row(sources, i + 1)), row(donors, i)),
              1e-6);
  Engine engine(with_threads(1));
  const auto weights = [&](const Recipe& recipe) {
    graph::ParameterStore store(model::make_layout(recipe.model), {}, false);
    initial_weights(recipe, store, engine.pool());
    const auto table = store.value("tok_emb.weight").span<float>();
    return std::vector<float>(table.begin(), table.end());
  };
  const auto with = weights(fused()), without = weights(fused({"data.fuse_markers=false"}));
  const std::size_t width = 64;
  const auto of = [&](const std::vector<float>& table, std::size_t id) {
    return std::span(table).subspan(id * width, width);
  };
  EXPECT_THAT(of(with, 9), ::testing::ElementsAreArray(fused_row(of(with, 8133), of(with, 5))));
  EXPECT_THAT(of(with, 11), ::testing::ElementsAreArray(of(without, 11)));
}

}  // namespace
}  // namespace fairway::pipeline
