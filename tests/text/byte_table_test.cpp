#include "fairway/text/byte_table.h"

#include <gmock/gmock.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "strings.h"
#include "support.h"

namespace fairway::text {
namespace {

using testing::ours;
using testing::sp1024;

// One tensor of a safetensors file as integers.
std::vector<int> golden(const std::string& name) {
  const auto file =
      base::read_file(std::filesystem::path(FAIRWAY_GOLDEN_DIR) / "byte_tables_sp1024.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, file.data(), 8);
  const auto entry =
      nlohmann::json::parse(std::string(reinterpret_cast<const char*>(file.data()) + 8, header)).at(name);
  const std::size_t begin = entry.at("data_offsets").at(0), end = entry.at("data_offsets").at(1),
                    count = entry.at("shape").at(0);
  const std::size_t width = (end - begin) / count;
  std::vector<int> values(count, 0);
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(&values[i], file.data() + 8 + header + begin + i * width, std::min<std::size_t>(width, 4));
  return values;
}

template <class T>
std::vector<int> ints(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

TEST(ByteTable, ChallengeTableIsThePublishedOne) {
  const ByteTable table = make_byte_table(sp1024(), ByteRule::challenge);
  EXPECT_EQ(ints(table.base), golden("base_bytes"));
  EXPECT_EQ(ints(table.lead), golden("has_leading_space"));
  EXPECT_EQ(ints(table.bound), golden("is_boundary"));
}

TEST(ByteTable, RowsBeyondTheTokenizerCountNothing) {
  const ByteTable table = make_byte_table(sp1024(), ByteRule::challenge, 1088);
  EXPECT_EQ(table.vocab_size(), 1088);
  EXPECT_EQ(table.count(1087, 500), 0u);
  EXPECT_EQ(table.bound[1024], 1);
  EXPECT_THAT(testing::input_error([] { make_byte_table(sp1024(), ByteRule::exact, 1000); }),
              ::testing::HasSubstr("1000"));
}

TEST(ByteTable, CountsSpacesByTheRule) {
  const ByteTable table = make_byte_table(sp1024(), ByteRule::challenge);
  const auto the = static_cast<std::uint32_t>(sp1024().piece_id("\xE2\x96\x81the"));
  EXPECT_EQ(table.count(the, 500), 4u);
  EXPECT_EQ(table.count(the, 1), 3u);
  EXPECT_EQ(table.count(1, the), 0u);
  const ByteTable exact = make_byte_table(ours(), ByteRule::exact);
  const auto our_the = static_cast<std::uint32_t>(ours().piece_id("\xE2\x96\x81the"));
  EXPECT_EQ(exact.count(our_the, 1), 4u);
}

TEST(ByteTable, ExactCountsOfOursSumToTheText) {
  const ByteTable table = make_byte_table(ours(), ByteRule::exact);
  EXPECT_EQ(default_byte_rule(ours()), ByteRule::exact);
  for (const std::string& text : testing::nasty_strings())
    EXPECT_EQ(testing::counted(ours(), table, text), text.size())
        << ::testing::PrintToString(text.substr(0, 40));
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const std::string text = testing::random_text(seed);
    ASSERT_EQ(testing::counted(ours(), table, text), text.size()) << seed;
  }
  EXPECT_EQ(testing::counted(ours(), table, testing::demo_text()), testing::demo_text().size());
}

// Each token alone adds what the table says, whatever comes before it.
TEST(ByteTable, ExactCountsOfOursDoNotDependOnContext) {
  const ByteTable table = make_byte_table(ours(), ByteRule::exact);
  for (std::uint32_t id = 0; id < 1024; ++id) {
    const std::vector<std::int32_t> ids = {static_cast<std::int32_t>(id)};
    if (ours().kind(ids[0]) != PieceKind::unknown) {
      ASSERT_EQ(table.count(id, 1), ours().decode(ids).size()) << id;
    }
    ASSERT_EQ(table.count(id, 1), table.count(id, 500)) << id;
  }
}

TEST(ByteTable, ExactCountsOfPublishedSumToTheDecodedText) {
  EXPECT_EQ(default_byte_rule(sp1024()), ByteRule::challenge);
  for (const auto& file : base::glob(testing::data_path("tokenizers/*.model").string())) {
    const Tokenizer tokenizer = Tokenizer::load(file);
    const ByteTable table = make_byte_table(tokenizer, ByteRule::exact);
    // A literal U+2581 at the very start becomes one more stripped space, which three columns cannot tell.
    const auto told = [](const std::string& text) { return text.find("\xE2\x96\x81") == std::string::npos; };
    for (const std::string& text : testing::nasty_strings()) {
      if (!told(text)) continue;
      EXPECT_EQ(testing::counted(tokenizer, table, text), tokenizer.decode(tokenizer.encode(text)).size())
          << file << ::testing::PrintToString(text.substr(0, 40));
    }
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
      const std::string text = testing::random_text(seed);
      if (!told(text)) continue;
      ASSERT_EQ(testing::counted(tokenizer, table, text), tokenizer.decode(tokenizer.encode(text)).size())
          << file << seed;
    }
    const std::string prose = testing::demo_text().substr(0, 100'000);
    EXPECT_EQ(testing::counted(tokenizer, table, prose), tokenizer.decode(tokenizer.encode(prose)).size())
        << file;
  }
}

}  // namespace
}  // namespace fairway::text
