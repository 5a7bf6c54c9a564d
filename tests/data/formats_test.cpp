// What files are like that other programs made: line ends, byte order marks, what lies behind compressed
// data, fields nobody reads, pipes.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <thread>

#include "compressed.h"
#include "support.h"

namespace fairway::data {
namespace {

using ::testing::AllOf;
using testing::DataFolder;
using ::testing::ElementsAre;
using testing::Format;
using testing::formats;
using testing::gzip;
using ::testing::HasSubstr;
using testing::input_error;
using ::testing::IsEmpty;
using testing::split;
using testing::texts;
using testing::xz;
using testing::zst;
using Texts = std::vector<std::string>;

std::string zeros(std::size_t count) { return std::string(count, '\0'); }

TEST(Formats, CarriageReturnsBelongToTheLinesEnd) {
  const auto paragraphs = split(SplitOn::blank_line), lines = split(SplitOn::line);
  const std::string crlf = "para one\r\nline two\r\n\r\npara two\r\n";
  EXPECT_THAT(texts(crlf, "a.txt", paragraphs), ElementsAre("para one\r\nline two", "para two"));
  auto joined = paragraphs;
  joined.min_document_bytes = 100;
  EXPECT_THAT(texts(crlf, "a.txt", joined), ElementsAre("para one\r\nline two\n\npara two"));
  EXPECT_THAT(texts(crlf, "a.txt", lines), ElementsAre("para one", "line two", "para two"));
  EXPECT_THAT(texts(crlf, "a.txt"), ElementsAre(crlf)) << "a whole file is its bytes";

  EXPECT_THAT(texts("a\nb\r\n \t\r\nc\r\n\n\nd", "a.txt", paragraphs), ElementsAre("a\nb", "c", "d"));
  EXPECT_THAT(texts("a\rb\r\n\r\nc", "a.txt", paragraphs), ElementsAre("a\rb", "c"));
  EXPECT_THAT(texts("end\r", "a.txt", lines), ElementsAre("end"));
}

TEST(Formats, LinesMayEndInCarriageReturnAlone) {
  const std::string old = "one\rtwo\r\rthree\r";
  EXPECT_THAT(texts(old, "a.txt", split(SplitOn::line)), ElementsAre("one", "two", "three"));
  EXPECT_THAT(texts(old, "a.txt", split(SplitOn::blank_line)), ElementsAre("one\rtwo", "three"));
  EXPECT_THAT(texts(old, "a.txt"), ElementsAre(old));
  EXPECT_THAT(texts("{\"text\": \"a\"}\r{\"text\": \"b\"}\r", "a.jsonl"), ElementsAre("a", "b"));
}

TEST(Formats, AByteOrderMarkIsNoText) {
  const std::string mark = "\xEF\xBB\xBF";
  EXPECT_THAT(texts(mark + "text", "a.txt"), ElementsAre("text"));
  EXPECT_THAT(texts(mark + "\n\ntext\n", "a.txt", split(SplitOn::blank_line)), ElementsAre("text"));
  EXPECT_THAT(texts(mark + "{\"text\": \"x\"}", "a.jsonl"), ElementsAre("x"));
  EXPECT_THAT(texts("{\"text\": \"x\"}\n" + mark + "{\"text\": \"y\"}", "a.jsonl"), ElementsAre("x", "y"));
  EXPECT_THAT(input_error([&] { texts("\xFF\xFEt\0e\0", "a.txt"); }), HasSubstr("not valid UTF-8 at byte 0"));
}

TEST(Formats, FieldsNobodyReadNeedOnlyBeJson) {
  for (const char* value : {"1e999", "-1E+400", "123456789012345678901234567890", "0.1e-400", "\"\\ud800\"",
                            "\"\\udc00\\ud800x\"", "\"a\xFF\"", "{\"\\ud800\": [1, {}, []]}", "null",
                            "[[], {\"a\": {\"b\": -0}}]"}) {
    const auto line = std::string("{\"id\": ") + value + ", \"text\": \"kept\", \"more\": " + value + "}";
    EXPECT_THAT(texts(line, "a.jsonl"), ElementsAre("kept")) << value;
  }
  const std::string deep(300'000, '['), shut(300'000, ']');
  EXPECT_THAT(texts("{\"x\": " + deep + shut + ", \"text\": \"y\"}", "a.jsonl"), ElementsAre("y"));
  EXPECT_THAT(texts("{\"text\": \"first\", \"text\": \"last\"}", "a.jsonl"), ElementsAre("last"));
  EXPECT_THAT(texts("{\"te\\u0078t\": \"by its name\"}", "a.jsonl"), ElementsAre("by its name"));
  EXPECT_THAT(texts(R"({"text": "\"\\\/\b\f\n\r\t\u20ac\uD83D\uDE00"})", "a.jsonl"),
              ElementsAre("\"\\/\b\f\n\r\t\xE2\x82\xAC\xF0\x9F\x98\x80"));
}

TEST(Formats, WhatIsNoJsonIsSaidWhyAndWhere) {
  const auto said = [](const std::string& line) { return input_error([&] { texts(line, "a.jsonl"); }); };
  for (const auto& [value, why] : std::initializer_list<std::pair<std::string, std::string>>{
           {"NaN", "NaN is no JSON; write null, at byte 19"},
           {"-Infinity", "-Infinity is no JSON"},
           {"01", "expected ',' or '}', at byte 20"},
           {"1.", "expected a digit"},
           {"-", "expected a digit"},
           {"+1", "expected a value"},
           {"tru", "expected a value"},
           {"[1 2]", "expected ',' or ']'"},
           {"{1: 2}", "expected '\"'"},
           {"{\"a\" 2}", "expected ':'"},
           {"[1,]", "expected a value"},
           {"\"\\x\"", "an unknown escape"},
           {"\"\\u12g4\"", "expected four hexadecimal digits"},
           {"\"a\tb\"", "a control character in a string"}})
    EXPECT_THAT(said("{\"text\": \"t\", \"x\": " + value + "}"),
                AllOf(HasSubstr("a.jsonl: line 1: bad JSON"), HasSubstr(why)))
        << value;
  EXPECT_THAT(said("{\"text\": \"a\\ud83dx\"}"),
              HasSubstr("\\ud83d is half a surrogate pair, which is no character, at byte 11"));
  EXPECT_THAT(said("{\"text\": \"t\"} {}"), HasSubstr("more follows the object, at byte 14"));
  EXPECT_THAT(said("{\"text\": \"t\", \"x\": [1"), HasSubstr("it ends within the object"));
  EXPECT_THAT(said("{\n\"text\": \"t\"\n}"), HasSubstr("one object a line is what `jq -c .` writes"));
  EXPECT_THAT(said("[{\"text\": \"t\"}]"), HasSubstr("a list becomes one object a line by `jq -c '.[]'`"));
  EXPECT_THAT(said("{\"text\": \"\xE9\"}"), HasSubstr("not valid UTF-8 at byte 10"));
  EXPECT_THAT(said("{\xE9\"text\": \"t\"}"), HasSubstr("not valid UTF-8 at byte 1"));
}

TEST(Formats, PaddingBehindCompressedData) {
  EXPECT_THAT(texts(gzip("text") + zeros(512), "a.txt.gz"), ElementsAre("text"));
  EXPECT_THAT(texts(gzip("one ") + zeros(3) + gzip("two") + zeros(70'000), "a.txt.gz"),
              ElementsAre("one two"));
  EXPECT_THAT(texts(xz("one ") + zeros(4) + xz("two") + zeros(8), "a.txt.xz"), ElementsAre("one two"));
  EXPECT_THAT(input_error([] { texts(xz("one") + zeros(5), "a.txt.xz"); }),
              HasSubstr("a.txt.xz: damaged xz data (5 bytes of padding are no multiple of 4)"));
  // A frame to skip, as zstd's own tools and seekable archives write.
  EXPECT_THAT(
      texts(zst("one ") + std::string("\x50\x2A\x4D\x18\x02\x00\x00\x00xy", 10) + zst("two"), "a.txt.zst"),
      ElementsAre("one two"));
  for (const Format& format : formats()) {
    const auto name = "a.txt" + format.extension;
    for (const std::string rest : {"garbage", "x"})
      EXPECT_THAT(input_error([&] { texts(format.compress("one") + rest, name); }),
                  AllOf(HasSubstr(name + ": bytes that are no "), HasSubstr("data follow its end")));
    EXPECT_THAT(input_error([&] { texts(zeros(64) + format.compress("one"), name); }), HasSubstr("damaged"));
  }
  EXPECT_THAT(input_error([] { texts(zst("one") + zeros(4), "a.txt.zst"); }),
              HasSubstr("no zstd data follow"));
  EXPECT_THAT(input_error([] { texts(gzip("one") + zeros(9) + "x", "a.txt.gz"); }),
              HasSubstr("no gzip data"));
}

TEST(Formats, ACutSecondMemberIsAnError) {
  const std::string first = testing::demo_text().substr(0, 2000), second = "the second one\n";
  for (const Format& format : formats()) {
    const auto name = "a.txt" + format.extension;
    const auto good = format.compress(first), more = format.compress(second);
    for (std::size_t kept = 1; kept < more.size(); ++kept)
      EXPECT_THAT(input_error([&] { texts(good + more.substr(0, kept), name); }),
                  HasSubstr(name + ": compressed data ends too early"))
          << kept << " of " << more.size();
    EXPECT_EQ(texts(good + more, name), Texts{first + second});
  }
}

/// A frame that asks for a window of 2^log bytes and holds one stored block.
std::string zst_with_window(int log) {
  return std::string("\x28\xB5\x2F\xFD\x00", 5) + static_cast<char>((log - 10) << 3) +
         std::string("\x29\x00\x00", 3) + "hello";
}

TEST(Formats, LongWindowsAreReadUpToOneGiB) {
  EXPECT_THAT(texts(zst_with_window(27), "a.txt.zst"), ElementsAre("hello"));
  EXPECT_THAT(texts(zst_with_window(30), "a.txt.zst"), ElementsAre("hello"));
  EXPECT_THAT(input_error([] { texts(zst_with_window(31), "a.txt.zst"); }),
              HasSubstr("a.txt.zst: needs over 1 GiB of memory to decompress; give its text by a pipe: "
                        "zstd -dc --long=31 a.txt.zst | fairway ... -"));
}

TEST(Formats, NamesMayBeInCapitals) {
  EXPECT_THAT(texts("a\n\nb", "A.TXT", split(SplitOn::blank_line)), ElementsAre("a", "b"));
  EXPECT_THAT(texts(gzip("text"), "A.TXT.GZ"), ElementsAre("text"));
  for (const char* name : {"a.jsonl", "a.JSONL", "a.ndjson", "a.json", "a.Json"})
    EXPECT_THAT(texts("{\"text\": \"x\"}\n{\"text\": \"y\"}\n", name), ElementsAre("x", "y")) << name;
  EXPECT_THAT(texts(zst("{\"text\": \"x\"}"), "a.NDJSON.Zst"), ElementsAre("x"));
}

/// What a reader makes of bytes that come through a pipe of this name.
Texts through_pipe(const DataFolder& folder, const std::string& name, const std::string& bytes,
                   const ReaderOptions& options = {}) {
  const auto path = folder / name;
  EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::thread writer([&] {
    std::FILE* out = std::fopen(path.c_str(), "wb");
    std::fwrite(bytes.data(), 1, bytes.size(), out);
    std::fclose(out);
  });
  Texts all;
  {
    DocumentReader reader(path, options);
    for (Document document; reader.next(document);) all.push_back(document.text);
  }
  writer.join();
  return all;
}

TEST(Formats, PipesNeedNoName) {
  const DataFolder folder;
  const std::string lines = " {\"text\": \"x\"}\n{\"text\": \"y\"}\n";
  EXPECT_THAT(through_pipe(folder, "plain", "one\ntwo\n", split(SplitOn::line)), ElementsAre("one", "two"));
  EXPECT_THAT(through_pipe(folder, "json", lines), ElementsAre("x", "y"));
  EXPECT_THAT(through_pipe(folder, "brace", "{ a text of its own }"), ElementsAre("{ a text of its own }"));
  EXPECT_THAT(through_pipe(folder, "named.txt", lines), ElementsAre(lines))
      << "a name that tells is believed";
  EXPECT_THAT(through_pipe(folder, "tiny", "a"), ElementsAre("a"));
  for (const Format& format : formats()) {
    EXPECT_THAT(through_pipe(folder, "json" + format.extension.substr(1), format.compress(lines)),
                ElementsAre("x", "y"));
    EXPECT_THAT(through_pipe(folder, "named" + format.extension, format.compress("text")),
                ElementsAre("text"));
  }
  EXPECT_THAT(input_error([&] { texts("x", "plain"); }), HasSubstr("unknown kind of file")) << "no pipe";
}

TEST(Formats, StandardInputIsReadOnceOnly) {
  EXPECT_THAT(find_texts(Texts{"-"}), ElementsAre("-"));
  EXPECT_THAT(input_error([] { find_texts(Texts{"-", "-"}); }), HasSubstr("can be read once only"));
  EXPECT_FALSE(can_be_read_again("-"));
  EXPECT_FALSE(can_be_read_again("/dev/stdin"));
  EXPECT_FALSE(can_be_read_again("/dev/fd/63"));
  EXPECT_TRUE(can_be_read_again("/dev/shm/a.txt"));
}

TEST(Formats, BadLinesAreSkippedAndCountedWhenAsked) {
  const std::string lines =
      "{\"text\": \"good\"}\nno json\n{\"body\": \"x\"}\n{\"text\": 5}\n[1]\n{\"text\": \"a\xFF\"}\n\n"
      "{\"text\": \"\\ud800\"}\n{\"text\": \"" +
      std::string(100, 'l') + "\"}\n{\"text\": \"also good\"}\n{\"text\": \"cut";
  ReaderOptions options;
  options.skip_bad_lines = true;
  options.max_document_bytes = 60;
  const auto bytes = std::as_bytes(std::span(lines.data(), lines.size()));
  DocumentReader reader(bytes, "a.jsonl", options);
  Texts all;
  for (Document document; reader.next(document);) all.push_back(document.text);
  EXPECT_THAT(all, ElementsAre("good", "also good"));
  EXPECT_EQ(reader.skipped().count, 8u);
  EXPECT_THAT(reader.skipped().first, HasSubstr("a.jsonl: line 2: bad JSON"));
  EXPECT_THAT(reader.skipped().text(), HasSubstr("8 bad lines skipped; the first: a.jsonl: line 2"));

  auto text = split(SplitOn::line);
  text.skip_bad_lines = true;
  EXPECT_THAT(texts("fine\nbad \xC3(\nalso\n", "a.txt", text), ElementsAre("fine", "also"));
  text.split_on = SplitOn::blank_line;
  EXPECT_THAT(input_error([&] { texts("fine\n\nbad \xC3(\n", "a.txt", text); }), HasSubstr("document 2"))
      << "a paragraph is no line";
}

TEST(Formats, SkippedLinesOfSeveralFilesAddUp) {
  const DataFolder folder;
  folder.write("a.jsonl", "x\n{\"text\": \"a\"}\n");
  folder.write("b.jsonl", "{\"text\": \"b\"}\ny\nz\n");
  ReaderOptions options;
  options.skip_bad_lines = true;
  auto set = DocumentSet::from_patterns({folder.glob("*.jsonl")}, options);
  Document document;
  while (set.next(document)) continue;
  EXPECT_EQ(set.skipped().count, 3u);
  EXPECT_THAT(set.skipped().first, HasSubstr("a.jsonl: line 1"));
  ASSERT_EQ(set.skipped_by_file().size(), 2u);
  EXPECT_EQ(set.skipped_by_file()[1].count, 2u);
  const auto bad = folder.write("c.jsonl", "x\n");
  EXPECT_THAT(input_error([&] { read_documents({bad}, options); }),
              HasSubstr("c.jsonl: no documents (1 bad line skipped; the first: "));
}

}  // namespace
}  // namespace fairway::data
