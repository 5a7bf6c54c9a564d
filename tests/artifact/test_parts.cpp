// Parts of files: what each counts for, and that the cut, the doubled and the foreign of each is refused.
#include "fairway/artifact/artifact.h"
#include "fairway/artifact/checkpoint.h"
#include "fairway/artifact/safetensors.h"
#include "fairway/artifact/size_ledger.h"
#include "fairway/base/error.h"
#include "support/errors.h"
#include "support/folder.h"
#include "synthetic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

namespace fairway::artifact {
namespace {

using fairway::testing::Folder;
using fairway::testing::input_error;
using testing::golden_artifact;
using ::testing::HasSubstr;
using testing::make_tensor;

Artifact with_compressible_tokenizer() {
  Artifact a = golden_artifact();
  a.tokenizer->model = std::string(50'000, 'p');
  for (int i = 0; i < 3; ++i)
    a.tensors.push_back(
        make_tensor("blocks." + std::to_string(i) + ".mlp.proj.weight", TensorKind::int6, {128, 96}));
  return a;
}

TEST(SizeLedger, TheTokenizerCountsAsItIsStored) {
  const auto a = with_compressible_tokenizer();
  const auto bytes = encode_artifact(a, {Coder::zstd, 3});
  const auto ledger = size_ledger(bytes, "x");
  std::uint64_t stored = 0, raw = 0;
  for (const auto& p : ledger.parts)
    if (p.name == "tokenizer") stored = p.stored_bytes, raw = p.raw_bytes;
  EXPECT_GT(raw, 50'000u);
  EXPECT_LT(stored, 1000u);
  EXPECT_EQ(ledger.tokenizer_bytes, stored);
  // The same file without one: all that goes is the section and its entry in the table.
  auto without = a;
  without.tokenizer.reset();
  const auto less = encode_artifact(without, {Coder::zstd, 3});
  EXPECT_LT(bytes.size() - less.size(), stored + 100);
  EXPECT_EQ(ledger.challenge_bytes(), bytes.size() - stored + code_bytes());
  EXPECT_EQ(ledger.self_contained_bytes(), bytes.size() + code_bytes());
}

TEST(SizeLedger, EveryNumberIsItsMembers) {
  const auto bytes = encode_artifact(with_compressible_tokenizer(), {Coder::zstd, 3});
  LedgerOptions options;
  options.published_script_bytes = 71'793;
  const auto ledger = size_ledger(bytes, "x", options);
  const auto json = ledger.to_json();
  EXPECT_EQ(json["file_bytes"], bytes.size());
  EXPECT_EQ(json["code_bytes"], code_bytes());
  EXPECT_EQ(json["code_bytes_cpu"], code_bytes_cpu());
  EXPECT_LT(code_bytes_cpu(), code_bytes());
  EXPECT_EQ(json["challenge_bytes"],
            bytes.size() - json["tokenizer_bytes"].get<std::uint64_t>() + code_bytes());
  EXPECT_EQ(json["self_contained_bytes"], bytes.size() + code_bytes());
  EXPECT_EQ(json["published_bytes"], json["weights_bytes"].get<std::uint64_t>() + 71'793);
  EXPECT_EQ(json["limit"], 16'000'000);
  std::uint64_t stored = 0, weights = 0, tensors = 0;
  for (const auto& p : json["parts"]) {
    stored += p["stored_bytes"].get<std::uint64_t>();
    tensors += p["tensors"].get<std::uint64_t>();
    if (p["name"].get<std::string>().starts_with("weights/"))
      weights += p["stored_bytes"].get<std::uint64_t>();
  }
  EXPECT_EQ(stored, bytes.size());
  EXPECT_EQ(weights, json["weights_bytes"]);
  EXPECT_EQ(tensors, with_compressible_tokenizer().tensors.size());
  for (const auto& [file, fits] :
       {std::pair<std::uint64_t, bool>{kChallengeLimit, true}, {kChallengeLimit + 1, false}}) {
    SizeLedger at;
    at.file_bytes = file;
    EXPECT_EQ(at.to_json()["fits"], fits) << file;
  }
}

/// The places of the sections' names in a file's table.
std::vector<std::size_t> places_of(const std::vector<std::byte>& bytes, std::string_view name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<std::size_t> places;
  for (auto at = text.find(name); at != text.npos; at = text.find(name, at + 1)) places.push_back(at);
  return places;
}

TEST(ArtifactFile, CutDoubledAndJoinedFilesAreRefused) {
  const auto good = encode_artifact(golden_artifact(), {Coder::zstd, 3});
  auto refused = [](std::vector<std::byte> bytes) {
    EXPECT_THAT(input_error([&] { decode_artifact(bytes, "f.fairway"); }), HasSubstr("f.fairway"));
  };
  auto twice = good;
  twice.insert(twice.end(), good.begin(), good.end());
  refused(twice);
  auto behind = std::vector<std::byte>(16);
  behind.insert(behind.end(), good.begin(), good.end());
  refused(behind);
  for (const char* name : {"weights", "recipe", "provenance", "tokenizer"}) {
    const auto places = places_of(good, name);
    ASSERT_FALSE(places.empty()) << name;
    auto renamed = good;
    renamed[places.front()] = std::byte{'X'};
    refused(renamed);
  }
}

class CheckpointParts : public ::testing::Test {
 protected:
  CheckpointParts() {
    contents.tensors = {{"a", {2, 3}, values}, {"b", {6}, values}};
    contents.buffers = {{"m", std::as_bytes(std::span(values))}, {"n", {}}};
    contents.metadata = R"({"step":1})";
    contents.recipe_text = "name = \"x\"\n";
  }
  std::vector<std::byte> written(const CheckpointContents& c) {
    write_checkpoint(folder / "c.fwck", c);
    return base::read_file(folder / "c.fwck");
  }
  std::string refused(const std::vector<std::byte>& bytes) {
    base::write_file(folder / "e.fwck", bytes);
    return input_error([&] { Checkpoint::open(folder / "e.fwck"); });
  }
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  CheckpointContents contents;
  Folder folder;
};

TEST_F(CheckpointParts, CutDoubledAndForeignPartsAreRefused) {
  const auto good = written(contents);
  EXPECT_EQ(Checkpoint::open(folder / "c.fwck").tensors().size(), 2u);
  for (std::size_t size = 0; size < good.size(); size += 61)
    EXPECT_THAT(refused({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}),
                HasSubstr("e.fwck"));
  auto twice = good;
  twice.insert(twice.end(), good.begin(), good.end());
  EXPECT_THAT(refused(twice), HasSubstr("e.fwck"));
  EXPECT_THAT(refused(encode_artifact(golden_artifact(), {Coder::zstd, 3})), HasSubstr("e.fwck"));
  for (const char* name : {"tensor:a", "tensor:b", "buffer:m", "buffer:n"}) {
    const auto places = places_of(good, name);
    if (places.empty()) continue;  // sections may have shorter prefixes
    auto renamed = good;
    renamed[places.front() + std::strlen(name) - 1] = std::byte{'z'};
    EXPECT_THAT(refused(renamed), HasSubstr("e.fwck")) << name;
  }
  auto again = contents;
  again.tensors.push_back(again.tensors[0]);
  EXPECT_THROW(written(again), base::Error) << "two of a name";
  again = contents;
  again.buffers.push_back(again.buffers[0]);
  EXPECT_THROW(written(again), base::Error);
}

TEST_F(CheckpointParts, ATensorIsOnlyItsBytes) {
  auto wrong = contents;
  wrong.tensors[0].shape = {2, 2};
  EXPECT_THROW(written(wrong), base::Error);
  const auto file = [&] {
    written(contents);
    return Checkpoint::open(folder / "c.fwck");
  }();
  EXPECT_EQ(file.tensor("a")->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(std::vector<float>(file.tensor("b")->values.begin(), file.tensor("b")->values.end()), values);
  EXPECT_EQ(file.buffer("m")->bytes.size(), 24u);
  EXPECT_TRUE(file.buffer("n")->bytes.empty());
  EXPECT_EQ(file.tensor("m"), nullptr);
  EXPECT_EQ(file.buffer("a"), nullptr);
}

TEST(SafeTensorsFile, CutDoubledAndForeignBytesAreRefused) {
  const Folder folder;
  const std::vector<float> values = {1, 2, 3, 4};
  const auto data = std::as_bytes(std::span(values));
  const std::vector<SafeTensor> tensors = {{"a", tensor::DType::f32, {2, 2}, data},
                                           {"b", tensor::DType::f16, {8}, data}};
  write_safetensors(folder / "s.safetensors", tensors, {{"k", "v"}});
  const auto good = base::read_file(folder / "s.safetensors");
  auto refused = [](const std::vector<std::byte>& bytes) {
    EXPECT_THAT(input_error([&] { SafeTensors::parse(bytes, "s.safetensors"); }), HasSubstr("s.safetensors"));
  };
  for (std::size_t size = 0; size < good.size(); size += 13)
    refused({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)});
  auto twice = good;
  twice.insert(twice.end(), good.begin(), good.end());
  refused(twice);
  refused(std::vector<std::byte>(64));
  refused(encode_artifact(golden_artifact(), {Coder::zstd, 3}));
  const auto file = SafeTensors::parse(good, "s");
  EXPECT_EQ(file.metadata().at("k"), "v");
  EXPECT_EQ(file.floats("a"), values);
  EXPECT_EQ(file.tensors().size(), 2u);
}

}  // namespace
}  // namespace fairway::artifact
