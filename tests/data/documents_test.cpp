#include "fairway/data/documents.h"

#include <gmock/gmock.h>

#include "compressed.h"
#include "support.h"

namespace fairway::data {
namespace {

using ::testing::ElementsAre;
using testing::Format;
using testing::formats;
using ::testing::HasSubstr;
using testing::input_error;
using testing::split;
using testing::texts;
using testing::zst;

TEST(Documents, TextFilesSplitThreeWays) {
  const std::string text = "\nFirst line\r\nsecond line\n\n  \nThird\n\n\nfourth";
  EXPECT_THAT(texts(text, "a.txt"), ElementsAre(text));
  EXPECT_THAT(texts(text, "a.txt", split(SplitOn::line)),
              ElementsAre("First line", "second line", "Third", "fourth"));
  EXPECT_THAT(texts(text, "a.txt", split(SplitOn::blank_line)),
              ElementsAre("First line\r\nsecond line", "Third", "fourth"));
  ReaderOptions joined = split(SplitOn::blank_line);
  joined.min_document_bytes = 25;
  EXPECT_THAT(texts(text, "a.txt", joined), ElementsAre("First line\r\nsecond line\n\nThird", "fourth"));
  EXPECT_EQ(base::parse_name<SplitOn>("blank-line"), SplitOn::blank_line);
  EXPECT_EQ(base::parse_name<SplitOn>("blankline"), std::nullopt);
}

TEST(Documents, AParagraphOfExactlyTheLeastSizeStandsAlone) {
  const auto at_least = [](std::uint64_t bytes) {
    ReaderOptions options = split(SplitOn::blank_line);
    options.min_document_bytes = bytes;
    return texts("four\n\nab\n\ncd\n\nend", "a.txt", options);
  };
  EXPECT_THAT(at_least(0), ElementsAre("four", "ab", "cd", "end"));
  EXPECT_THAT(at_least(2), ElementsAre("four", "ab", "cd", "end"));
  EXPECT_THAT(at_least(3), ElementsAre("four", "ab\n\ncd", "end"));
  EXPECT_THAT(at_least(4), ElementsAre("four", "ab\n\ncd", "end"));
  EXPECT_THAT(at_least(5), ElementsAre("four\n\nab", "cd\n\nend"));
  EXPECT_THAT(at_least(8), ElementsAre("four\n\nab", "cd\n\nend"));
  EXPECT_THAT(at_least(9), ElementsAre("four\n\nab\n\ncd", "end"));
}

TEST(Documents, JsonLines) {
  const std::string lines =
      "{\"text\": \"a\\nb \\u00e9 \\ud83d\\ude00\", \"meta\": {\"text\": [1, {\"x\": 2}]}}\n\n{\"id\": 3, "
      "\"text\": \"second\"}";
  EXPECT_THAT(texts(lines, "a.jsonl"), ElementsAre("a\nb \xC3\xA9 \xF0\x9F\x98\x80", "second"));
  ReaderOptions other;
  other.field = "body";
  EXPECT_THAT(texts("{\"body\": \"x\", \"text\": \"y\"}", "a.jsonl", other), ElementsAre("x"));
}

TEST(Documents, CompressedIsTheSameText) {
  // Two members (frames, streams) one after the other, as `cat a.gz b.gz` makes, with output far beyond one
  // buffer.
  const std::string first = testing::demo_text().substr(0, 700'000), second = "tail\n";
  for (const Format& format : formats()) {
    const std::string bytes = format.compress(first) + format.compress(second);
    EXPECT_THAT(texts(bytes, "demo.txt" + format.extension), ElementsAre(first + second)) << format.extension;
    EXPECT_EQ(texts(bytes, "demo.txt" + format.extension, split(SplitOn::line)),
              texts(first + second, "demo.txt", split(SplitOn::line)));
  }
}

TEST(Documents, TruncatedAndDamagedCompressionIsAnError) {
  const std::string text = testing::demo_text().substr(0, 50'000);
  for (const Format& format : formats()) {
    const std::string name = "cut.txt" + format.extension, good = format.compress(text);
    for (const std::size_t size :
         {good.size() - 1, good.size() - 9, good.size() / 2, std::size_t{20}, std::size_t{0}})
      EXPECT_THAT(input_error([&] { texts(good.substr(0, size), name); }),
                  HasSubstr(name + ": compressed data ends too early"))
          << size;
    std::string bad = good;
    bad[good.size() / 2] = static_cast<char>(bad[good.size() / 2] ^ 0x55);
    // zstd frames of ZSTD_compress carry no checksum: a flip may go unseen there, never crash.
    if (format.extension == ".zst") continue;
    EXPECT_THAT(input_error([&] { texts(bad, name); }), HasSubstr(name)) << format.extension;
    EXPECT_THAT(input_error([&] { texts("plain text, not compressed", name); }), HasSubstr("damaged"));
  }
}

TEST(Documents, ErrorsNameFileLineAndByte) {
  EXPECT_THAT(input_error([] { texts("{\"text\": \"ok\"}\n{\"text\": \"cut", "x.jsonl"); }),
              HasSubstr("x.jsonl: line 2: bad JSON"));
  EXPECT_THAT(input_error([] { texts("{\"text\": \"\\ud800\"}", "x.jsonl"); }),
              HasSubstr("x.jsonl: line 1: bad JSON"));
  EXPECT_THAT(input_error([] { texts("4e4444", "x.jsonl"); }), HasSubstr("line 1: not a JSON object"));
  EXPECT_THAT(input_error([] { texts("[1]", "x.jsonl"); }), HasSubstr("line 1: not a JSON object"));
  EXPECT_THAT(input_error([] { texts("{\"body\": \"x\"}", "x.jsonl"); }),
              HasSubstr("line 1: no field 'text'"));
  EXPECT_THAT(input_error([] { texts("{\"text\": 5}", "x.jsonl"); }),
              HasSubstr("line 1: field 'text' is not a string"));
  EXPECT_THAT(input_error([] { texts("{\"text\": \"\"}", "x.jsonl"); }),
              HasSubstr("x.jsonl: line 1: empty document"));
  EXPECT_THAT(input_error([] { texts("\n{\"text\": \"a\xFF\"}", "x.jsonl"); }),
              HasSubstr("x.jsonl: line 2: not valid UTF-8 at byte 11"));
  EXPECT_THAT(input_error([] { texts("fine\nbad \xC3(", "x.txt", split(SplitOn::line)); }),
              HasSubstr("x.txt: line 2: not valid UTF-8 at byte 4"));
  EXPECT_THAT(input_error([] { texts("", "x.txt"); }), HasSubstr("x.txt: document 1: empty document"));
  EXPECT_THAT(input_error([] { texts("a", "x.csv"); }), HasSubstr("x.csv: unknown kind of file"));
  EXPECT_THAT(input_error([] { DocumentReader("/nowhere/x.txt"); }),
              HasSubstr("/nowhere/x.txt: cannot be read"));
  EXPECT_THAT(input_error([] { DocumentSet::from_patterns({"/nowhere/*.txt"}); }),
              HasSubstr("/nowhere/*.txt: no such file"));
  ReaderOptions small;
  small.max_document_bytes = 10;
  EXPECT_THAT(input_error([&] { texts("{\"text\": \"long enough\"}", "x.jsonl", small); }),
              HasSubstr("line 1 is over 10 bytes"));
  EXPECT_THAT(input_error([&] { texts(zst(std::string(1 << 20, 'a')), "x.txt.zst", small); }),
              HasSubstr("document 1 is over 10 bytes"));
}

TEST(Documents, DeepJsonIsNoTrouble) {
  const std::string deep =
      "{\"text\": \"x\", \"y\": " + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  EXPECT_THAT(texts(deep, "x.jsonl"), ElementsAre("x"));
}

TEST(Documents, SkipsEmptyWhenAsked) {
  ReaderOptions options;
  options.skip_empty = true;
  EXPECT_THAT(texts("{\"text\": \"\"}\n{\"text\": \"b\"}", "x.jsonl", options), ElementsAre("b"));
}

TEST(Documents, SetsGoThroughFilesInOrder) {
  const testing::DataFolder folder;
  folder.write("b.txt", "two");
  folder.write("a.jsonl", "{\"text\": \"one\"}\n");
  auto set = DocumentSet::from_patterns({folder.glob("*")});
  Document document;
  ASSERT_TRUE(set.next(document));
  EXPECT_EQ(document.text, "one");
  EXPECT_EQ(set.file_index(), 0u);
  ASSERT_TRUE(set.next(document));
  EXPECT_EQ(document.text, "two");
  EXPECT_EQ(set.file_index(), 1u);
  EXPECT_FALSE(set.next(document));
}

}  // namespace
}  // namespace fairway::data
