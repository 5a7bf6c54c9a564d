// Fused markers: published ids (PR 2109, docs/spec/leaders.md section 6) and vocabularies trained with them.
#include "fairway/text/marker_fusion.h"

#include <gmock/gmock.h>

#include <numeric>
#include <set>

#include "fairway/text/caseops.h"
#include "fairway/text/stream_decoder.h"
#include "strings.h"
#include "support.h"
#include "support/safetensors.h"

namespace fairway::text {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using testing::input_error;
using Ids = std::vector<std::uint16_t>;

const std::string kSpace = "\xE2\x96\x81";
const std::string T(case_operator_text(CaseOperator::title)), A(case_operator_text(CaseOperator::all_caps)),
    C(case_operator_text(CaseOperator::cap_next)), E(case_operator_text(CaseOperator::escape)),
    ST(case_operator_text(CaseOperator::space_title)), SA(case_operator_text(CaseOperator::space_all_caps));

const Tokenizer& apart() {
  static const auto tokenizer = Tokenizer::load(
      testing::data_path("tokenizers/fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model"));
  return tokenizer;
}
const Tokenizer& fused() {
  static const auto tokenizer = apart().with_fused_markers();
  return tokenizer;
}
const Tokenizer& ours() {
  static const auto trained =
      train_tokenizer({std::string_view(testing::demo_text()).substr(0, 60'000)},
                      {.vocab_size = 600, .case_operators = true, .fuse_markers = true});
  return trained;
}

Ids ids_of(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids;
  tokenizer.encode(text, ids);
  return ids;
}
std::uint64_t sum(const std::vector<std::uint16_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

TEST(MarkerFusion, ADonorCountsWhatItsPairDid) {
  const MarkerFusion fusion{.space = 9, .pairs = {{{4, 20}, {5, 21}, {6, 22}}}};
  std::vector<std::uint16_t> ids = {9, 7, 9, 5, 9, 6, 4, 9}, counts = {1, 2, 3, 4, 65000, 1000, 6, 7};
  fusion.fuse(ids, 0, &counts);
  EXPECT_EQ(ids, (std::vector<std::uint16_t>{9, 7, 21, 22, 4, 9}));
  EXPECT_EQ(counts, (std::vector<std::uint16_t>{1, 2, 7, 65535, 6, 7}));
}

TEST(MarkerFusion, IsTheOriginals) {
  const auto golden = testing::read_safetensors(FAIRWAY_GOLDEN_DIR "/marker_fusion.safetensors");
  const auto& fusion = *fused().marker_fusion();
  EXPECT_EQ(fusion.space, golden.json("space").get<int>());
  for (std::size_t i = 0; i < fusion.pairs.size(); ++i) {
    EXPECT_EQ(fusion.pairs[i].donor, golden.json("pairs")[i][0].get<int>());
    EXPECT_EQ(fusion.pairs[i].marker, golden.json("pairs")[i][1].get<int>());
  }
  const auto part = [&](const std::string& values, const std::string& lengths) {
    std::vector<Ids> all;
    const auto flat = golden.at(values).as<std::int32_t>();
    auto at = flat.begin();
    for (const auto n : golden.at(lengths).as<std::int32_t>()) all.emplace_back(at, at + n), at += n;
    return all;
  };
  const auto in = part("in", "in_length"), in_bytes = part("in_bytes", "in_length");
  const auto out = part("out", "out_length"), out_bytes = part("out_bytes", "out_length");
  ASSERT_EQ(in.size(), 50u);
  for (std::size_t i = 0; i < in.size(); ++i) {
    auto ids = in[i], counts = in_bytes[i];
    fusion.fuse(ids, 0, &counts);
    EXPECT_EQ(ids, out[i]) << i;
    EXPECT_EQ(counts, out_bytes[i]) << i;
    EXPECT_EQ(fusion.part<std::uint16_t>(std::span<const std::uint16_t>(ids)), in[i]) << i;
  }
}

TEST(MarkerFusion, LeavesWhatStandsBefore) {
  Ids ids = {8133, 4, 8133, 4};
  fused().marker_fusion()->fuse(ids, 1);
  EXPECT_THAT(ids, ElementsAre(8133, 4, 8));
}

TEST(FusedMarkers, AreTheIdsOfTheModelWithPairsReplaced) {
  const std::string text = testing::demo_text().substr(0, 30'000);
  auto expected = ids_of(apart(), text);
  const auto before = expected.size();
  fused().marker_fusion()->fuse(expected);
  const auto ids = ids_of(fused(), text);
  EXPECT_EQ(ids, expected);
  EXPECT_LT(ids.size(), before);
  EXPECT_EQ(fused().decode(ids), apart().decode(ids_of(apart(), text)));
  EXPECT_THAT(ids_of(fused(), "The NASA Launch"), ::testing::Contains(9));
  EXPECT_FALSE(fused().lossless());
}

TEST(FusedMarkers, TravelInTheBytesOfTheModel) {
  const auto copy = Tokenizer::from_bytes(fused().model_bytes(), "copy");
  EXPECT_EQ(copy.transform(), Transform::caseops_fused);
  EXPECT_EQ(ids_of(copy, "I am"), ids_of(fused(), "I am"));
  EXPECT_EQ(copy.fingerprint(), fused().fingerprint());
  EXPECT_NE(copy.fingerprint(), apart().fingerprint()) << "shards of one are not the other's";
  EXPECT_EQ(copy.with_fused_markers().fingerprint(), copy.fingerprint());
  EXPECT_THAT(input_error([] { testing::sp1024().with_fused_markers(); }), HasSubstr("transform 'none'"));
}

TEST(FusedMarkers, TakePiecesThatNoTextHasAnyMore) {
  const std::string text("a\0b\1c\2d", 7);
  for (const auto id : ids_of(fused(), text)) EXPECT_EQ(fused().marker_fusion()->of_donor(id), nullptr);
  EXPECT_EQ(fused().decode(ids_of(fused(), text)), "a b c d");
}

/// By every rule a donor counts its space, and the operator nothing.
TEST(FusedMarkers, CountAsTheTokensThatTheyAreMadeOf) {
  auto texts = testing::nasty_strings();
  texts.push_back(testing::demo_text().substr(0, 5'000));
  texts.push_back("The NASA Launch x\xEE\x80\x81y \xEE\x80\x84 B  \n\n Cd \xC2\xBD");
  std::erase_if(texts, [](const std::string& text) {  // the characters that become spaces
    return text.empty() || text.find_first_of(std::string("\0\1\2", 3)) != std::string::npos;
  });
  for (const auto rule : {ByteRule::challenge, ByteRule::exact}) {
    const auto one = make_byte_table(apart(), rule), two = make_byte_table(fused(), rule);
    for (const auto& text : texts)
      EXPECT_EQ(testing::counted(fused(), two, text), testing::counted(apart(), one, text));
    EXPECT_EQ(two.count(8, 500), 1u);
    EXPECT_EQ(two.count(8, 1), 0u) << "a space at the start of a document is stripped";
  }
  for (const auto& text : texts) {
    const auto ids = ids_of(fused(), text);
    const auto counts = fused().surface_bytes(text, ids);
    ASSERT_EQ(counts.size(), ids.size());
    EXPECT_EQ(sum(counts), sum(apart().surface_bytes(text, ids_of(apart(), text))));
    std::uint64_t counted = 0;
    for (std::size_t i = 0; i < ids.size(); i += 1 + ids.size() / 20) {
      counted = std::accumulate(counts.begin(), counts.begin() + std::ptrdiff_t(i) + 1, std::uint64_t{0});
      ASSERT_GE(fused().source_bytes(text, std::span(ids).first(i + 1)), counted);
    }
  }
}

TEST(FusedMarkers, AreDecodedAsTheyAreGenerated) {
  const std::string text = "It is NASA, so The";
  StreamDecoder decoder(fused(), "", {});
  std::string shown;
  for (const auto id : ids_of(fused(), text)) shown += decoder.add(id);
  EXPECT_EQ(shown + decoder.finish(), text);
}

/// All strings of up to `length` of these symbols.
std::vector<std::string> all_strings(int length) {
  const std::vector<std::string> symbols = {"a", "B", " ", T, E, ST, SA};
  std::vector<std::string> all = {""};
  std::size_t first = 0;
  for (int n = 0; n < length; ++n)
    for (const auto end = all.size(); first < end; ++first)
      for (const auto& symbol : symbols) all.push_back(all[first] + symbol);
  return all;
}

TEST(FusedSpelling, HasOneCharacterForASpaceAndItsOperator) {
  EXPECT_EQ(caseops_encode("The NASA Launch", Markers::fused), T + "the" + SA + "nasa" + ST + "launch");
  EXPECT_EQ(caseops_encode("a  B iP\tC", Markers::fused), "a " + ST + "b i" + C + "p\t" + T + "c");
  EXPECT_EQ(caseops_encode("x" + ST + " " + SA, Markers::fused), "x" + E + ST + " " + E + SA);
  EXPECT_EQ(caseops_encode("x" + ST), "x" + ST) << "an ordinary character where markers are apart";
}

TEST(FusedSpelling, GivesEveryShortStringBack) {
  std::set<std::string> spelled;
  for (const auto& text : all_strings(5)) {
    const auto encoded = caseops_encode(text, Markers::fused);
    ASSERT_EQ(caseops_decode(encoded, "text", Markers::fused), text);
    ASSERT_TRUE(spelled.insert(encoded).second);
  }
  EXPECT_EQ(spelled.size(), 1u + 7 + 49 + 343 + 2401 + 16807);
}

TEST(FusedSpelling, IsReadOrRefusedWhateverItIs) {
  for (const auto& encoded : all_strings(4)) {
    const auto any = caseops_decode_any(encoded, Markers::fused);
    try {
      EXPECT_EQ(caseops_decode(encoded, "text", Markers::fused), any);
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::input);
    }
  }
  EXPECT_EQ(caseops_decode_any(ST + SA + "a", Markers::fused), "  A");
}

TEST(FusedMarkers, OfATrainedVocabularyKeepEveryTextAndCountItsBytes) {
  EXPECT_EQ(ours().transform(), Transform::caseops_fused_lossless_v1);
  EXPECT_TRUE(ours().lossless());
  EXPECT_EQ(ours().piece_id(ST), 8);
  EXPECT_EQ(ours().piece_id(SA), 9);
  EXPECT_THAT(ids_of(ours(), "x NASA").at(1), 9);
  const auto table = make_byte_table(ours(), ByteRule::exact);
  auto texts = all_strings(4);
  texts.insert(texts.end(), testing::nasty_strings().begin(), testing::nasty_strings().end());
  texts.emplace_back(hostile_text());
  for (const auto& text : texts) {
    if (text.empty()) continue;
    const auto ids = ids_of(ours(), text);
    ASSERT_EQ(ours().decode(ids), text);
    ASSERT_EQ(testing::counted(ours(), table, text), text.size()) << text;
    ASSERT_EQ(sum(ours().surface_bytes(text, ids)), text.size()) << text;
  }
  EXPECT_EQ(make_byte_table(ours(), ByteRule::challenge).count(8, 500), 1u);
}

TEST(FusedMarkers, NeedCaseOperatorsToBeTrained) {
  EXPECT_THAT(input_error([] { train_tokenizer({"text"}, {.fuse_markers = true}); }),
              HasSubstr("with case operators only"));
}

}  // namespace
}  // namespace fairway::text
