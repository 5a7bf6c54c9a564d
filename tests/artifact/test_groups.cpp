// Byte shuffle, orders of rows, and integers in streams by group.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>

#include "container.h"
#include "fairway/artifact/artifact.h"
#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "groups.h"
#include "row_order.h"
#include "sections.h"
#include "shuffle.h"
#include "synthetic.h"

namespace fairway::artifact {
namespace {

using testing::grouped_artifact;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr WriteOptions kGroups{.coder = Coder::smallest, .groups = true};

std::vector<std::byte> numbers(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

TEST(Shuffle, EachPieceHoldsTheBytesOfOneRemainder) {
  EXPECT_EQ(shuffle(base::as_bytes("0123456"), 2), shuffle(base::as_bytes("0246135"), 1));
  EXPECT_EQ(shuffle(base::as_bytes("01234567"), 3), shuffle(base::as_bytes("03614725"), 1));
}

TEST(Shuffle, IsUndoneForAnySizeAndStride) {
  for (std::size_t size = 0; size < 40; ++size)
    for (int stride = 1; stride <= kMaxStride; ++stride) {
      const auto bytes = numbers(size);
      std::vector<std::byte> back(size);
      unshuffle(shuffle(bytes, stride), stride, back);
      EXPECT_EQ(back, bytes) << size << " bytes, stride " << stride;
    }
}

/// As docs/spec/caseops_quantization.md section 7.2 says it.
std::vector<std::uint16_t> plain_order(const std::vector<std::int8_t>& q, std::size_t rows,
                                       std::size_t columns) {
  std::vector<std::uint16_t> order{0};
  std::vector<bool> used(rows);
  used[0] = true;
  while (order.size() < rows) {
    long best = -1, best_distance = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      if (used[r]) continue;
      long d = 0;
      for (std::size_t c = 0; c < columns; ++c)
        d += std::abs(int{q[r * columns + c]} - int{q[order.back() * columns + c]});
      if (best < 0 || d < best_distance) best = static_cast<long>(r), best_distance = d;
    }
    order.push_back(static_cast<std::uint16_t>(best));
    used[static_cast<std::size_t>(best)] = true;
  }
  return order;
}

TEST(RowOrder, IsTheGreedyChainOfTheSmallestDistances) {
  const base::Random random(11, "rows");
  for (const auto& [rows, columns] : {std::pair<std::size_t, std::size_t>{2, 1}, {7, 3}, {33, 65}, {90, 130}})
    for (const unsigned spread : {3u, 256u}) {  // of few values: with many ties
      std::vector<std::int8_t> q(rows * columns);
      for (std::size_t i = 0; i < q.size(); ++i)
        q[i] = static_cast<std::int8_t>(static_cast<int>(random.bits(i) % spread) -
                                        static_cast<int>(spread / 2));
      EXPECT_EQ(similarity_order(q, rows, columns), plain_order(q, rows, columns))
          << rows << " x " << columns;
    }
}

TEST(RowOrder, IsUndoneWithAndWithoutTransposing) {
  constexpr std::size_t rows = 71, columns = 130;
  const auto matrix = numbers(rows * columns);
  std::vector<std::uint16_t> order(rows);
  for (std::size_t i = 0; i < rows; ++i) order[i] = static_cast<std::uint16_t>(i * 5 % rows);
  for (const bool sorted : {false, true})
    for (const bool transposed : {false, true}) {
      Arrangement how{{}, transposed};
      if (sorted) how.order = order;
      std::vector<std::byte> stream(matrix.size()), back(matrix.size());
      arrange(matrix, rows, how, stream);
      const std::size_t row = 3, column = 100, source = sorted ? order[row] : row;
      EXPECT_EQ(stream[transposed ? column * rows + row : row * columns + column],
                matrix[source * columns + column]);
      restore(stream, rows, how, back);
      EXPECT_EQ(back, matrix);
    }
}

TEST(Groups, EachHasAStreamInTheArrangementThatSuitsIt) {
  const auto bytes = encode_artifact(grouped_artifact(), kGroups);
  std::map<std::string, std::string> coding;
  for (const auto& p : size_ledger(bytes, "x").parts) coding[p.name] = p.coding;
  EXPECT_THAT(coding["weights/blocks.*.mlp.proj.weight"], HasSubstr("rows sorted"));
  EXPECT_THAT(coding["weights/blocks.*.attn.proj.weight"], HasSubstr("transposed"));
  EXPECT_THAT(coding["weights/blocks.*.attn.c_q.weight"], ::testing::Not(HasSubstr("transposed")));
  const auto c = parse_container(bytes, "x", kArtifactKind, kArtifactSections, {});
  EXPECT_EQ(c.at("weights:0").raw_bytes + c.at("weights:1").raw_bytes, 4u * 96 * 70);
  EXPECT_EQ(c.find("weights:2"), nullptr) << "small groups stay in the section 'weights'";
  EXPECT_EQ(c.at(kOrder).raw_bytes, 2u * 2 * 96);
  EXPECT_LT(size_ledger(bytes, "x").weights_bytes,
            size_ledger(encode_artifact(grouped_artifact(), {Coder::smallest}), "x").weights_bytes);
}

TEST(Groups, BytesAreTheSameForAnyNumberOfThreads) {
  auto how = kGroups;
  const auto one = encode_artifact(grouped_artifact(), how);
  for (const int threads : {2, 5}) {
    how.threads = threads;
    EXPECT_EQ(encode_artifact(grouped_artifact(), how), one) << threads;
  }
}

TEST(Groups, SmallestTakesForEachSectionTheSmallestOfAllCoders) {
  const auto bytes = encode_artifact(grouped_artifact(), {Coder::smallest});
  std::uint64_t best = bytes.size();
  for (const Coder coder : all_coders()) {
    const auto alone = encode_artifact(grouped_artifact(), {coder});
    const auto c = parse_container(alone, "x", kArtifactKind, kArtifactSections, {});
    best = std::min<std::uint64_t>(best, c.at(kWeights).stored.size());
  }
  const auto c = parse_container(bytes, "x", kArtifactKind, kArtifactSections, {});
  EXPECT_EQ(c.at(kWeights).stored.size(), best);
}

/// The file with section `name` replaced, or left out where `bytes` is null; features as they were or
/// `features`.
std::vector<std::byte> changed(const std::string& name, const std::vector<std::byte>* bytes,
                               std::uint64_t without_feature = 0) {
  const auto file = encode_artifact(grouped_artifact(), kGroups);
  const auto c = parse_container(file, "x", kArtifactKind, kArtifactSections, {});
  ContainerWriter writer(kArtifactKind);
  writer.require_feature((c.required_features & ~without_feature) &
                         ~(kFeatureBrotli | kFeatureLzma | kFeatureShuffle));
  bool found = false;
  std::vector<RawBytes> decoded;
  for (const auto& s : c.sections) {
    found |= s.name == name;
    if (s.name == name && !bytes) continue;
    decoded.push_back(c.decoded(s, 1 << 20));
    writer.add_borrowed(s.name, s.required,
                        s.name == name ? std::span<const std::byte>(*bytes) : decoded.back().span());
  }
  if (!found && bytes) writer.add_borrowed(name, true, *bytes);
  return writer.to_bytes();
}

std::string error_of(std::span<const std::byte> bytes, const ReadLimits& limits = {}) {
  try {
    decode_artifact(bytes, "x", limits);
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::input) << e.what();
    return e.what();
  }
  return "";
}

/// Decoded bytes of a section of the file.
std::vector<std::byte> section(const std::string& name) {
  const auto file = encode_artifact(grouped_artifact(), kGroups);
  const auto c = parse_container(file, "x", kArtifactKind, kArtifactSections, {});
  const auto bytes = c.decoded(c.at(name), 1 << 20);
  return {bytes.span().begin(), bytes.span().end()};
}

TEST(HostileGroups, LayoutsThatDoNotFitAreRefused) {
  const auto layout = section(kLayout);
  EXPECT_EQ(error_of(changed(kLayout, &layout)), "");
  ASSERT_EQ(layout.size(), 10u);
  const auto with = [&](std::size_t i, int value) {
    auto bad = layout;
    bad[i] = static_cast<std::byte>(value);
    return error_of(changed(kLayout, &bad));
  };
  std::size_t first = 0;  // tensor of a stream
  while (layout[first] == std::byte{0}) ++first;
  EXPECT_THAT(with(first, 16), HasSubstr("layout 16"));
  EXPECT_THAT(with(first, 255), HasSubstr("layout 255"));
  EXPECT_THAT(with(first, 4), HasSubstr("layout 4")) << "sorted, but in no stream";
  EXPECT_THAT(with(first, 1), HasSubstr("layout 1")) << "follows, but nothing is before it";
  EXPECT_THAT(with(first, 0), HasSubstr("layout")) << "the next one follows then";
  EXPECT_THAT(with(first + 1, 0), HasSubstr("has 13440 bytes, its tensors 6720"));
  EXPECT_THAT(with(first + 1, 3), HasSubstr("has 13440 bytes, its tensors 6720"));
  EXPECT_THAT(with(first, 7), HasSubstr("'weights:order' has 384 bytes"));
  for (const std::size_t size : {0, 9, 11}) {
    auto bad = layout;
    bad.resize(size);
    EXPECT_THAT(error_of(changed(kLayout, &bad)), HasSubstr("bytes for 10 integer tensors"));
  }
}

TEST(HostileGroups, OrdersThatAreNoPermutationsAreRefused) {
  const auto order = section(kOrder);
  ASSERT_EQ(order.size(), 384u);
  const auto with = [&](std::size_t i, int value) {
    auto bad = order;
    bad[i] = static_cast<std::byte>(value);
    return error_of(changed(kOrder, &bad));
  };
  EXPECT_THAT(with(4, std::to_integer<int>(order[6])), HasSubstr("no permutation")) << "a row twice";
  EXPECT_THAT(with(4, 96), HasSubstr("no permutation")) << "a row beyond the last";
  EXPECT_THAT(with(5, 255), HasSubstr("no permutation"));
  auto bad = order;
  bad.pop_back();
  EXPECT_THAT(error_of(changed(kOrder, &bad)), HasSubstr("has 383 bytes, 384 expected"));
}

TEST(HostileGroups, MissingLongAndSuperfluousSectionsAreRefused) {
  for (const char* name : {"weights:layout", "weights:order", "weights:0", "weights:1"})
    EXPECT_THAT(error_of(changed(name, nullptr)), HasSubstr(fmt::format("no section '{}'", name)));
  const std::vector<std::byte> more(13441);
  EXPECT_THAT(error_of(changed("weights:0", &more)), HasSubstr("has 13441 bytes, its tensors 13440"));
  EXPECT_THAT(error_of(changed("weights:2", &more)), HasSubstr("5 sections 'weights:*', 4 expected"));
  EXPECT_THAT(error_of(changed("", nullptr, kFeatureGroups)), HasSubstr("'weights:*', 0 expected"));
  auto rest = section(kWeights);
  rest.pop_back();
  EXPECT_THAT(error_of(changed(kWeights, &rest)), HasSubstr("bytes of values"));
  rest.resize(300);
  EXPECT_NE(error_of(changed(kWeights, &rest)), "");
  ReadLimits limits;
  limits.max_decoded = 20'000;  // each section is smaller
  EXPECT_THAT(error_of(encode_artifact(grouped_artifact(), kGroups), limits),
              HasSubstr("at most 20000 are read"));
}

TEST(HostileGroups, EachFlippedByteAndTruncationIsDetected) {
  for (const auto& how : {kGroups, WriteOptions{.coder = Coder::brotli, .level = 5, .shuffle = 2}}) {
    auto bytes = encode_artifact(grouped_artifact(), how);
    ASSERT_EQ(error_of(bytes), "");
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] ^= static_cast<std::byte>(1u << i % 8);
      ASSERT_NE(error_of(bytes), "") << "byte " << i;
      bytes[i] ^= static_cast<std::byte>(1u << i % 8);
    }
    for (std::size_t size = 0; size < bytes.size(); ++size)
      ASSERT_NE(error_of(std::span(bytes).first(size)), "") << size << " bytes";
  }
}

TEST(HostileGroups, DamageBehindTheChecksumsIsAnErrorOrOtherWeights) {
  auto bytes = encode_artifact(grouped_artifact(), kGroups);
  ReadLimits limits;
  limits.verify_checksums = false;
  const base::Random random(12, "damage");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto bit = static_cast<std::byte>(1u << random.bits(i) % 8);
    bytes[i] ^= bit;
    error_of(bytes, limits);  // the sanitizers watch
    bytes[i] ^= bit;
  }
}

}  // namespace
}  // namespace fairway::artifact
