// Every reader of this layer refuses the cut, the doubled and the foreign of each of its parts.
#include <gmock/gmock.h>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "compressed.h"
#include "fairway/base/hash.h"
#include "fairway/data/build.h"
#include "fairway/data/loader.h"
#include "support.h"

namespace fairway::data {
namespace {

using testing::DataFolder;
using ::testing::HasSubstr;
using testing::input_error;
using Json = nlohmann::ordered_json;

std::string text_of(std::string_view bytes, const std::string& name) {
  std::string all;
  for (const auto& text : testing::texts(bytes, name)) all += text;
  return all;
}

class Members : public ::testing::TestWithParam<testing::Format> {
 protected:
  const std::string first = "The first member, with enough text in it to be worth a few bytes.\n";
  const std::string second = "And a second one behind it, which is as long as the first or longer.\n";
  const std::string name = "two.txt" + GetParam().extension;
};

TEST_P(Members, AFileCutAnywhereButBetweenMembersIsRefused) {
  const auto a = GetParam().compress(first), both = a + GetParam().compress(second);
  for (std::size_t size = 1; size < both.size(); ++size) {
    if (size == a.size()) {
      EXPECT_EQ(text_of(both.substr(0, size), name), first);
      continue;
    }
    // An .xz stream's padding must be zeros in fours; a first byte alone may be told as damage.
    EXPECT_THAT(input_error([&] { text_of(both.substr(0, size), name); }), HasSubstr(name)) << size;
  }
  EXPECT_EQ(text_of(both, name), first + second);
  EXPECT_EQ(text_of(a + a, name), first + first) << "`cat` of two files is one file";
}

TEST_P(Members, WhatIsNoMemberIsRefused) {
  const auto good = GetParam().compress(first);
  for (const std::string& foreign :
       {std::string("plain text"), std::string("PK\3\4 a zip file"), good.substr(1)}) {
    EXPECT_THAT(input_error([&] { text_of(foreign, name); }), HasSubstr(name));
    EXPECT_THAT(input_error([&] { text_of(good + foreign, name); }), HasSubstr(name))
        << "behind a member as much as in its place";
  }
}

TEST_P(Members, MembersThatEndWhereTheBufferDoes) {
  // Sizes around the reader's 64 KiB of input, so that a member's end and a read's end fall together.
  std::string noise(1 << 16, '\0');
  std::uint32_t state = 1;
  for (auto& c : noise) c = static_cast<char>('!' + ((state = state * 1664525u + 1013904223u) >> 24) % 90);
  for (int trial = 0; trial < 400 && static_cast<int>(GetParam().compress(noise).size()) != 1 << 16;
       ++trial) {
    const auto size = static_cast<std::ptrdiff_t>(GetParam().compress(noise).size());
    const auto missing = (std::ptrdiff_t{1} << 16) - size;
    if (missing < 0) {
      noise.resize(noise.size() - static_cast<std::size_t>(std::min<std::ptrdiff_t>(-missing, 1000)));
    } else {
      for (std::ptrdiff_t i = 0; i < missing; ++i)
        noise += static_cast<char>('!' + ((state = state * 1664525u + 1013904223u) >> 24) % 90);
    }
  }
  const auto member = GetParam().compress(noise);
  EXPECT_EQ(text_of(member, name), noise);
  EXPECT_EQ(text_of(member + GetParam().compress(second), name), noise + second);
  EXPECT_THAT(input_error([&] { text_of(member + GetParam().compress(second).substr(0, 20), name); }),
              HasSubstr("ends too early"));
}

INSTANTIATE_TEST_SUITE_P(Formats, Members, ::testing::ValuesIn(testing::formats()),
                         [](const auto& test) { return test.param.extension.substr(1); });

// Shards in several folders.

std::string shard_bytes(const DataFolder& folder, const std::vector<std::uint16_t>& tokens) {
  ShardWriter writer(folder / "made.bin");
  writer.write(tokens);
  writer.finish();
  return base::read_text_file(folder / "made.bin");
}

/// A folder with one shard and the manifest of `fingerprint`.
void shard_folder(const DataFolder& folder, const std::string& name, std::string fingerprint) {
  std::filesystem::create_directory(folder / name);
  folder.write(name + "/x_train_000000.bin", shard_bytes(folder, {1, 2, 3}));
  if (fingerprint.empty()) return;
  Manifest manifest;
  manifest.tokenizer_fingerprint = std::move(fingerprint);
  manifest.transform = "none";
  folder.write(name + "/manifest.json", manifest_json(manifest));
}

TEST(Shards, EveryFoldersManifestIsComparedWithTheTokenizer) {
  const auto own = base::hex64(testing::sp1024().fingerprint());
  const std::string other = "00000000deadbeef";
  for (int wrong = 0; wrong < 3; ++wrong) {
    const DataFolder folder;
    for (int i = 0; i < 3; ++i)
      shard_folder(folder, std::string(1, static_cast<char>('a' + i)), i == wrong ? other : own);
    const auto pattern = folder.glob("*/x_train_*.bin");
    for (const auto& open :
         std::vector<std::function<void()>>{[&] { TokenStream::open(pattern, 1024, &testing::sp1024()); },
                                            [&] { read_shards(pattern, 1024, &testing::sp1024()); }})
      EXPECT_THAT(input_error(open),
                  ::testing::AllOf(HasSubstr(other),
                                   HasSubstr(std::string("/") + static_cast<char>('a' + wrong) + "/")));
    EXPECT_EQ(TokenStream::open(pattern, 1024).size(), 9u) << "nobody asked";
  }
  const DataFolder folder;
  shard_folder(folder, "a", own);
  shard_folder(folder, "b", "");
  EXPECT_EQ(TokenStream::open(folder.glob("*/x_*.bin"), 1024, &testing::sp1024()).size(), 6u)
      << "published shards have no manifest";
}

TEST(Shards, CutDoubledAndForeignBytesAreRefused) {
  const DataFolder folder;
  const auto good = shard_bytes(folder, {1, 2, 3, 4});
  auto refuses = [&](const std::string& bytes) {
    const auto path = folder.write("bad.bin", bytes);
    EXPECT_THAT(input_error([&] { ShardReader{path}; }), HasSubstr("bad.bin"));
  };
  for (std::size_t size = 0; size < good.size(); size += size < 16 || size > 1020 ? 1 : 97)
    refuses(good.substr(0, size));
  refuses(good + good);
  refuses(good + std::string(1, '\0'));
  refuses(good.substr(0, 1024) + good);
  refuses(std::string(good.size(), '\0'));
  for (int at : {0, 1, 2, 3, 4, 5, 8, 9, 11}) {  // magic, version, count
    auto changed = good;
    changed[static_cast<std::size_t>(at)] ^= '\x41';
    refuses(changed);
  }
}

// A manifest whose every key is needed and typed.

void each_place(const Json& json, const std::function<void(const Json::json_pointer&)>& use,
                const Json::json_pointer& here = Json::json_pointer()) {
  if (json.is_object())
    for (const auto& [key, value] : json.items()) {
      use(here / key);
      each_place(value, use, here / key);
    }
  if (json.is_array())
    for (std::size_t i = 0; i < json.size(); ++i) each_place(json[i], use, here / i);
}

Manifest full_manifest() {
  Manifest m;
  m.tokenizer_fingerprint = "0123456789abcdef";
  m.vocab_size = 1024;
  m.bos_id = 1;
  m.transform = "none";
  m.train = {11, 12, 13};
  m.val = {14, 15, 16};
  m.train_shards = {{"t.bin", 17, 18, "aa"}};
  m.val_shards = {{"v.bin", 19, 20, "bb", "v_bytes.bin", 26, "cc"}};
  m.sources = {{"s.txt", 21, 22}};
  m.options.prefix = "p";
  m.options.shard_tokens = 23;
  m.options.shard_per_file = true;
  m.options.validation_only = true;
  m.options.hold_out = {24, 0.25};
  m.options.reader.split_on = SplitOn::line;
  m.options.reader.field = "body";
  m.options.reader.skip_empty = true;
  m.options.reader.min_document_bytes = 25;
  return m;
}

TEST(ManifestFile, EveryKeyIsReadBackAndNeeded) {
  const auto text = manifest_json(full_manifest());
  EXPECT_EQ(manifest_json(parse_manifest(text, "m")), text) << "each value has a place of its own";
  const auto whole = Json::parse(text);
  int places = 0;
  each_place(whole, [&](const Json::json_pointer& at) {
    ++places;
    const bool since = at.back() == "skip_bad_lines" || at.back() == "skipped_lines" ||
                       at.back() == "side_car";  // older files have none
    auto without = whole;
    without[at.parent_pointer()].erase(at.back());
    if (!since) {
      EXPECT_THAT(input_error([&] { parse_manifest(without.dump(), "m.json"); }), HasSubstr("m.json"))
          << at.to_string();
    }
    auto foreign = whole;
    foreign[at] = Json::array({Json::object({{"x", 1}})});
    EXPECT_THAT(input_error([&] { parse_manifest(foreign.dump(), "m.json"); }), HasSubstr("m.json"))
        << at.to_string();
  });
  EXPECT_GE(places, 40);
  for (std::size_t size = 0; size + 2 < text.size(); size += 7)
    EXPECT_THAT(input_error([&] { parse_manifest(text.substr(0, size), "m.json"); }), HasSubstr("m.json"));
  EXPECT_THAT(input_error([&] { parse_manifest(text + text, "m.json"); }), HasSubstr("m.json"));
}

TEST(ManifestFile, EachValueHasAPlaceOfItsOwn) {
  const auto whole = Json::parse(manifest_json(full_manifest()));
  EXPECT_EQ(whole["sources"][0].dump(), R"({"name":"s.txt","bytes":21,"documents":22,"skipped_lines":0})");
  EXPECT_EQ(whole["train"]["documents"], 11);
  EXPECT_EQ(whole["train"]["tokens"], 12);
  EXPECT_EQ(whole["val"]["text_bytes"], 16);
  const std::map<std::string, std::string> others = {{"/options/split_on", "file"}};
  each_place(whole, [&](const Json::json_pointer& at) {
    auto changed = whole;
    auto& value = changed[at];
    if (value.is_structured() || at.to_string() == "/format" || at.to_string() == "/version") return;
    if (value.is_boolean()) {
      value = !value.get<bool>();
    } else if (value.is_number_float()) {
      value = value.get<double>() / 2;
    } else if (value.is_number()) {
      value = value.get<int>() + 1000;
    } else {
      const auto other = others.find(at.to_string());
      value = other != others.end() ? other->second : value.get<std::string>() + "x";
    }
    EXPECT_EQ(manifest_json(parse_manifest(changed.dump(), "m")), changed.dump(2) + "\n") << at.to_string();
  });
}

TEST(ManifestFile, NumbersAreWholeAndInRange) {
  const auto whole = Json::parse(manifest_json(full_manifest()));
  int numbers = 0;
  each_place(whole, [&](const Json::json_pointer& at) {
    if (!whole[at].is_number_integer()) return;
    ++numbers;
    const bool negative = at.to_string().starts_with("/tokenizer/");  // an id may be none: -1
    for (const auto& wrong : {Json(1.5), Json(1e300), Json(std::numeric_limits<double>::lowest()),
                              negative ? Json(std::int64_t{1} << 40) : Json(-1)}) {
      auto changed = whole;
      changed[at] = wrong;
      EXPECT_THAT(input_error([&] { parse_manifest(changed.dump(), "m.json"); }), HasSubstr("m.json"))
          << at.to_string() << " " << wrong.dump();
    }
  });
  EXPECT_GE(numbers, 18);
}

// A build that fails leaves nothing.

TEST(Build, AFailureAfterTheFirstShardLeavesTheFolderEmpty) {
  const DataFolder folder;
  std::string lines;
  for (int i = 0; i < 40; ++i)
    lines += "a line of some words to be made into tokens, number " + std::to_string(i) + "\n";
  const auto good = folder.write("a.txt", lines);
  const auto bad = folder.write("b.txt", "\xff\xfe no text\n");
  BuildOptions options;
  options.out = folder / "shards";
  options.hold_out.every = 3;
  options.reader.split_on = SplitOn::line;
  base::ThreadPool pool(2);
  base::SilentProgress silent;
  // The first batch (4 MiB) is written before the second is looked at.
  std::string words;
  while (words.size() < std::size_t{1} << 20) words += "word after word ";
  std::vector<std::filesystem::path> files;
  for (const char* name : {"c.txt", "d.txt", "e.txt", "f.txt"}) files.push_back(folder.write(name, words));
  files.push_back(bad);
  options.shard_tokens = 200'000;
  EXPECT_THAT(input_error([&] { build_shards(files, testing::sp1024(), options, pool, silent); }),
              HasSubstr("b.txt"));
  EXPECT_TRUE(base::glob(folder.glob("shards/*")).empty());
  options.shard_tokens = 100;
  EXPECT_NO_THROW(build_shards({good}, testing::sp1024(), options, pool, silent))
      << "the folder can be used again";
  EXPECT_GT(base::glob(folder.glob("shards/*.bin")).size(), 2u);
}

}  // namespace
}  // namespace fairway::data
