#include "fairway/data/documents.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "byte_stream.h"
#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/text.h"

namespace fairway::data {
namespace {

using base::fail_input;

constexpr std::array<std::string_view, 3> kSplits = {"file", "blank-line", "line"};
constexpr std::size_t kReadBytes = std::size_t{1} << 18;

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r\v\f") == std::string_view::npos; }

std::string shorten(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return text.substr(0, 160);
}

}  // namespace

std::optional<SplitOn> parse_split_on(std::string_view name) {
  for (std::size_t i = 0; i < kSplits.size(); ++i)
    if (kSplits[i] == name) return static_cast<SplitOn>(i);
  return std::nullopt;
}
std::string_view split_on_name(SplitOn split) { return kSplits[static_cast<std::size_t>(split)]; }

struct DocumentReader::Impl {
  std::string name;
  ReaderOptions options;
  std::unique_ptr<ByteStream> stream;
  bool jsonl = false;
  bool end = false;
  std::vector<char> buffer = std::vector<char>(kReadBytes);
  std::size_t begin = 0, filled = 0;
  std::string line;
  std::uint64_t lines = 0, documents = 0;
  bool unit_is_line() const { return jsonl || options.split_on == SplitOn::line; }

  Impl(std::unique_ptr<ByteStream> source, std::string file, ReaderOptions reader_options)
      : name(std::move(file)), options(std::move(reader_options)), stream(std::move(source)) {
    const std::string extension = inner_extension(name);
    jsonl = extension == ".jsonl";
    if (!jsonl && extension != ".txt")
      fail_input("{}: unknown kind of file; give .txt or .jsonl, or either with .gz, .xz or .zst", name);
  }

  bool refill() {
    if (begin < filled) return true;
    begin = 0;
    filled = end ? 0 : stream->read(buffer);
    end = filled == 0;
    return !end;
  }
  void check_size(std::uint64_t bytes) const {
    if (bytes > options.max_document_bytes)
      fail_input("{}: {} {} is over {} bytes; split it", name, unit_is_line() ? "line" : "document",
                 unit_is_line() ? lines : documents + 1, options.max_document_bytes);
  }
  // The next line without its '\n', or false at the end.
  bool next_line() {
    line.clear();
    bool any = false;
    ++lines;
    while (refill()) {
      any = true;
      const char* from = buffer.data() + begin;
      const auto* newline = static_cast<const char*>(std::memchr(from, '\n', filled - begin));
      const std::size_t count = newline ? static_cast<std::size_t>(newline - from) : filled - begin;
      check_size(line.size() + count);
      line.append(from, count);
      begin += count + (newline ? 1 : 0);
      if (newline) break;
    }
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
      if (line.ends_with('\r')) line.pop_back();
      if (blank(line)) continue;
      text.swap(line);
      return true;
    }
    return false;
  }

  bool next_paragraph(std::string& text) {
    bool open = false;  // inside a paragraph
    while (next_line()) {
      if (blank(line)) {
        if (open && text.size() >= options.min_document_bytes) return true;
        open = false;
        continue;
      }
      if (!text.empty()) text += open ? "\n" : "\n\n";
      check_size(text.size() + line.size());
      text += line;
      open = true;
    }
    return !text.empty();
  }

  bool next_json(std::string& text) {
    while (next_line()) {
      if (blank(line)) continue;
      // Before the parser, so that the message has the byte's place in the line.
      if (const auto bad = base::invalid_utf8_at(line))
        fail_input("{}: line {}: not valid UTF-8 at byte {}; convert the file to UTF-8", name, lines, *bad);
      parse_json(text);
      return true;
    }
    return false;
  }

  void parse_json(std::string& text) {
    try {
      // Only the wanted field is kept, and nesting is cut at one level: deep input cannot exhaust memory.
      const auto keep = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
        if (event == nlohmann::json::parse_event_t::key)
          return depth == 1 && value.get_ref<const std::string&>() == options.field;
        return depth == 0 || (event != nlohmann::json::parse_event_t::object_start &&
                              event != nlohmann::json::parse_event_t::array_start);
      };
      auto object = nlohmann::json::parse(line, keep);
      if (!object.is_object()) fail_input("{}: line {}: not a JSON object", name, lines);
      const auto found = object.find(options.field);
      if (found == object.end())
        fail_input("{}: line {}: no field '{}'; name the field that holds the text", name, lines,
                   options.field);
      if (!found->is_string())
        fail_input("{}: line {}: field '{}' is not a string", name, lines, options.field);
      text = std::move(found->get_ref<std::string&>());
    } catch (const nlohmann::json::exception& error) {
      fail_input("{}: line {}: bad JSON ({})", name, lines, shorten(error.what()));
    }
  }

  bool read(std::string& text) {
    text.clear();
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
      if (const auto bad = jsonl ? std::nullopt : base::invalid_utf8_at(document.text))
        fail_input("{}: not valid UTF-8 at byte {} (0x{:02x}); convert the file to UTF-8", document.where,
                   *bad, static_cast<unsigned char>(document.text[*bad]));
      if (!document.text.empty()) return true;
      if (!options.skip_empty)
        fail_input("{}: empty document; remove it or skip empty documents", document.where);
    }
    return false;
  }
};

DocumentReader::DocumentReader(const std::filesystem::path& path, ReaderOptions options)
    : impl_(std::make_unique<Impl>(open_stream(path), path.string(), std::move(options))) {}
DocumentReader::DocumentReader(std::span<const std::byte> bytes, std::string name, ReaderOptions options)
    : impl_(std::make_unique<Impl>(open_stream(bytes, name), name, std::move(options))) {}
DocumentReader::~DocumentReader() = default;
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;
DocumentReader& DocumentReader::operator=(DocumentReader&&) noexcept = default;
bool DocumentReader::next(Document& document) { return impl_->next(document); }

DocumentSet::DocumentSet(std::vector<std::filesystem::path> files, ReaderOptions options)
    : files_(std::move(files)), options_(std::move(options)) {
  if (files_.empty()) fail_input("no input files");
}

DocumentSet DocumentSet::from_patterns(const std::vector<std::string>& patterns, ReaderOptions options) {
  std::vector<std::filesystem::path> files;
  for (const std::string& pattern : patterns) {
    const auto found = base::glob(pattern);
    if (found.empty()) fail_input("{}: no such file", pattern);
    files.insert(files.end(), found.begin(), found.end());
  }
  return DocumentSet(std::move(files), std::move(options));
}

bool DocumentSet::next(Document& document) {
  for (; index_ < files_.size(); ++index_, reader_.reset()) {
    if (!reader_) reader_.emplace(files_[index_], options_);
    if (reader_->next(document)) return true;
  }
  return false;
}

std::vector<Document> read_documents(const std::vector<std::filesystem::path>& files,
                                     const ReaderOptions& options) {
  DocumentSet set(files, options);
  std::vector<Document> documents;
  for (Document document; set.next(document);) documents.push_back(std::move(document));
  if (documents.empty()) fail_input("{}: no documents", files.front().string());
  return documents;
}

}  // namespace fairway::data
