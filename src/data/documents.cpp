#include "fairway/data/documents.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "byte_stream.h"
#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/text.h"
#include "json_field.h"

namespace fairway::data {
namespace {

using base::fail_input;

constexpr std::size_t kReadBytes = std::size_t{1} << 18;

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r\v\f") == std::string_view::npos; }

bool is_json_lines(std::string_view extension) {
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

// Whether a text without a name to tell begins as lines of JSON do.
bool begins_as_json(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto brace = text.find_first_not_of(kSpace);
  if (brace == std::string_view::npos || text[brace] != '{') return false;
  const auto quote = text.find_first_not_of(kSpace, brace + 1);
  return quote != std::string_view::npos && text[quote] == '"';
}

}  // namespace

struct DocumentReader::Impl {
  std::string name;
  ReaderOptions options;
  std::unique_ptr<ByteStream> stream;
  bool jsonl = false;
  bool named = true;  // the kind is known; else the first bytes decide
  bool started = false, end = false;
  char newline = '\n';
  std::vector<char> buffer = std::vector<char>(kReadBytes);
  std::size_t begin = 0, filled = 0;
  std::string line;
  bool too_long = false;  // the line, of which nothing is kept then
  std::uint64_t lines = 0, documents = 0;
  SkippedLines skipped;
  bool unit_is_line() const { return jsonl || options.split_on == SplitOn::line; }

  Impl(std::unique_ptr<ByteStream> source, std::string file, bool pipe, ReaderOptions reader_options)
      : name(std::move(file)), options(std::move(reader_options)), stream(std::move(source)) {
    const std::string extension = inner_extension(name);
    jsonl = is_json_lines(extension);
    named = jsonl || extension == ".txt";
    if (!named && !pipe)
      fail_input("{}: unknown kind of file; give .txt or .jsonl, or either with .gz, .xz or .zst", name);
  }

  // What the beginning of a file says about the whole: a byte order mark, which is no text; lines that end
  // in CR alone; in a pipe, lines of JSON.
  void start() {
    started = true;
    while (filled < buffer.size() && !end) {
      const auto got = stream->read(std::span(buffer).subspan(filled));
      end = got == 0;
      filled += got;
    }
    constexpr std::string_view kMark = "\xEF\xBB\xBF";
    std::string_view text(buffer.data(), filled);
    if (text.starts_with(kMark)) begin = kMark.size();
    text.remove_prefix(begin);
    if (!named) jsonl = begins_as_json(text);
    const auto cr = text.find('\r');
    if (text.find('\n') == std::string_view::npos && cr != std::string_view::npos && cr + 1 < text.size())
      newline = '\r';
  }
  bool refill() {
    if (begin < filled) return true;
    begin = 0;
    filled = end ? 0 : stream->read(buffer);
    end = filled == 0;
    return !end;
  }
  std::string size_error() const {
    return fmt::format("{}: {} {} is over {} bytes; split it", name, unit_is_line() ? "line" : "document",
                       unit_is_line() ? lines : documents + 1, options.max_document_bytes);
  }
  void check_size(std::uint64_t bytes) const {
    if (bytes > options.max_document_bytes) fail_input("{}", size_error());
  }
  // A line that is no document: an error, unless such lines are to be skipped.
  void refuse(const std::string& message) {
    if (!options.skip_bad_lines) fail_input("{}", message);
    if (skipped.count++ == 0) skipped.first = message;
  }
  // The next line without its end, or false at the end.
  bool next_line() {
    line.clear();
    too_long = false;
    bool any = false;
    ++lines;
    while (refill()) {
      any = true;
      const char* from = buffer.data() + begin;
      const auto* found = static_cast<const char*>(std::memchr(from, newline, filled - begin));
      const std::size_t count = found ? static_cast<std::size_t>(found - from) : filled - begin;
      if (options.skip_bad_lines && unit_is_line())
        too_long |= line.size() + count > options.max_document_bytes;
      else
        check_size(line.size() + count);
      if (!too_long) line.append(from, count);
      begin += count + (found ? 1 : 0);
      if (found) break;
    }
    if (too_long) line.clear();
    return any;
  }

  bool next_file(std::string& text) {
    if (documents > 0) return false;
    while (refill()) {
      check_size(text.size() + filled - begin);
      text.append(buffer.data() + begin, filled - begin);
      begin = filled;
    }
    return true;
  }

  bool next_line_document(std::string& text) {
    while (next_line()) {
      if (too_long) refuse(size_error());
      if (line.ends_with('\r')) line.pop_back();
      if (blank(line)) continue;
      text.swap(line);
      return true;
    }
    return false;
  }

  bool next_paragraph(std::string& text) {
    bool open = false;  // inside a paragraph
    const auto close = [&] {
      if (open && text.ends_with('\r')) text.pop_back();  // its last line ended in CR LF
      return std::exchange(open, false);
    };
    while (next_line()) {
      if (blank(line)) {
        if (close() && std::ssize(text) >= options.min_document_bytes) return true;
        continue;
      }
      if (!text.empty()) text.append(open ? 1 : 2, newline);
      check_size(text.size() + line.size());
      text += line;
      open = true;
    }
    close();
    return !text.empty();
  }

  bool next_json(std::string& text) {
    while (next_line()) {
      if (too_long) refuse(size_error());
      if (blank(line)) continue;
      auto found = json_field(line, options.field);
      if (found.kind != JsonField::Kind::text) {
        refuse(json_error(found));
        continue;
      }
      text = std::move(found.text);
      return true;
    }
    return false;
  }

  std::string json_error(const JsonField& found) const {
    const auto where = fmt::format("{}: line {}: ", name, lines);
    switch (found.kind) {
      case JsonField::Kind::missing:
        return fmt::format("{}no field '{}'; name the field that holds the text", where, options.field);
      case JsonField::Kind::no_text:
        return fmt::format("{}field '{}' is not a string", where, options.field);
      case JsonField::Kind::no_object:
        return where + "not a JSON object; a list becomes one object a line by `jq -c '.[]'`";
      case JsonField::Kind::not_utf8:
        return fmt::format("{}not valid UTF-8 at byte {}; convert the file to UTF-8", where, found.at);
      default:
        break;
    }
    const bool spread = found.at == line.size() && lines == 1;  // one object over many lines
    return fmt::format("{}bad JSON ({}, at byte {}){}", where, found.text, found.at,
                       spread ? "; one object a line is what `jq -c .` writes" : "");
  }

  bool read(std::string& text) {
    text.clear();
    if (!started) start();
    if (jsonl) return next_json(text);
    switch (options.split_on) {
      case SplitOn::file:
        return next_file(text);
      case SplitOn::line:
        return next_line_document(text);
      case SplitOn::blank_line:
        return next_paragraph(text);
    }
    return false;
  }

  bool next(Document& document) {
    while (read(document.text)) {
      ++documents;
      document.number = unit_is_line() ? lines : documents;
      document.where = fmt::format("{}: {} {}", name, unit_is_line() ? "line" : "document", document.number);
      if (const auto bad = jsonl ? std::nullopt : base::invalid_utf8_at(document.text)) {
        const auto message =
            fmt::format("{}: not valid UTF-8 at byte {} (0x{:02x}); convert the file to UTF-8",
                        document.where, *bad, static_cast<unsigned char>(document.text[*bad]));
        if (!unit_is_line()) fail_input("{}", message);
        refuse(message);
        continue;
      }
      if (!document.text.empty()) return true;
      if (!options.skip_empty)
        fail_input("{}: empty document; remove it or skip empty documents", document.where);
    }
    return false;
  }
};

DocumentReader::DocumentReader(const std::filesystem::path& path, ReaderOptions options)
    : impl_(std::make_unique<Impl>(open_stream(path), path == "-" ? "standard input" : path.string(),
                                   is_pipe(path), std::move(options))) {}
DocumentReader::DocumentReader(std::span<const std::byte> bytes, std::string name, ReaderOptions options)
    : impl_(std::make_unique<Impl>(open_stream(bytes, name), name, false, std::move(options))) {}
DocumentReader::~DocumentReader() = default;
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;
DocumentReader& DocumentReader::operator=(DocumentReader&&) noexcept = default;
bool DocumentReader::next(Document& document) { return impl_->next(document); }
const SkippedLines& DocumentReader::skipped() const { return impl_->skipped; }

std::vector<std::filesystem::path> find_texts(std::span<const std::string> patterns) {
  check_read_once(patterns);
  std::vector<std::filesystem::path> files;
  for (const std::string& pattern : patterns) {
    const auto found = pattern == "-" ? std::vector<std::filesystem::path>{pattern} : base::glob(pattern);
    if (found.empty()) fail_input("{}: no such file", pattern);
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

void check_read_once(std::span<const std::string> patterns) {
  if (std::ranges::count(patterns, "-") > 1) fail_input("-: standard input can be read once only");
}

bool can_be_read_again(const std::filesystem::path& file) { return !is_pipe(file); }

DocumentSet::DocumentSet(std::vector<std::filesystem::path> files, ReaderOptions options)
    : files_(std::move(files)), options_(std::move(options)) {
  if (files_.empty()) fail_input("no input files");
}

DocumentSet DocumentSet::from_patterns(const std::vector<std::string>& patterns, ReaderOptions options) {
  return DocumentSet(find_texts(patterns), std::move(options));
}

bool DocumentSet::next(Document& document) {
  skipped_.resize(files_.size());
  for (; index_ < files_.size(); ++index_, reader_.reset()) {
    if (!reader_) reader_.emplace(files_[index_], options_);
    const bool more = reader_->next(document);
    skipped_[index_] = reader_->skipped();
    if (more) return true;
  }
  return false;
}

SkippedLines DocumentSet::skipped() const {
  SkippedLines all;
  for (const auto& file : skipped_) {
    if (all.count == 0) all.first = file.first;
    all.count += file.count;
  }
  return all;
}

std::string SkippedLines::text() const {
  return fmt::format("{} bad line{} skipped; the first: {}", count, count == 1 ? "" : "s", first);
}

void fail_without_documents(const std::string& name, const SkippedLines& skipped) {
  fail_input("{}: no documents{}", name, skipped.count == 0 ? "" : " (" + skipped.text() + ")");
}

std::vector<Document> read_documents(const std::vector<std::filesystem::path>& files,
                                     const ReaderOptions& options) {
  DocumentSet set(files, options);
  std::vector<Document> documents;
  for (Document document; set.next(document);) documents.push_back(std::move(document));
  if (documents.empty()) fail_without_documents(files.front().string(), set.skipped());
  return documents;
}

}  // namespace fairway::data
