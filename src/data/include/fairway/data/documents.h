#pragma once
// Documents from .txt and .jsonl (.ndjson, .json) files, each also .gz, .xz or .zst, and from pipes.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/base/enum_names.h"

namespace fairway::data {

/// How a .txt file is cut into documents.
enum class SplitOn {
  file,        ///< one file, one document
  blank_line,  ///< paragraphs; lines of white space only part them
  line,        ///< every line that is not empty
};
constexpr auto names_of(SplitOn) { return base::names<SplitOn>("file", "blank-line", "line"); }

struct ReaderOptions {
  SplitOn split_on = SplitOn::file;
  std::string field = "text";  ///< .jsonl: the key that holds the document
  bool skip_empty = false;     ///< empty documents are left out instead of being an error
  /// .jsonl and `line`: lines that are no document (no JSON, no such field, not UTF-8, too long) are counted
  /// and left out
  bool skip_bad_lines = false;
  std::int64_t min_document_bytes =
      0;  ///< blank_line: paragraphs are joined (with one empty line) until this size
  std::uint64_t max_document_bytes = std::uint64_t{1} << 30;  ///< a longer document or line is an error
};

struct Document {
  std::string text;
  std::uint64_t number = 0;  ///< from 1 within its file; for .jsonl and `line` the line number
  std::string where;         ///< "FILE: line 12" or "FILE: document 3", for messages
};

/// Lines that `skip_bad_lines` left out.
struct SkippedLines {
  std::uint64_t count = 0;
  std::string first;  ///< what was wrong with the first, and where
  /// "3 bad lines skipped; the first: ..."
  std::string text() const;
};

/// Reads a file's documents in order, in memory bounded by the largest document. Text is checked to be UTF-8;
/// a byte order mark at the beginning of a file is left out. Lines end in LF, CR LF, or, in a file without
/// any LF, CR. "-" is standard input; it and other pipes without a known name hold lines of JSON when they
/// begin with `{"`, else text. Throws an input error naming file, document or line and byte: truncated or
/// damaged compression, bad JSON, missing field, invalid UTF-8, empty document, unknown file name extension.
class DocumentReader {
 public:
  explicit DocumentReader(const std::filesystem::path& path, ReaderOptions options = {});
  /// From memory; `name` decides the format as a file name does. The bytes must outlive the reader.
  DocumentReader(std::span<const std::byte> bytes, std::string name, ReaderOptions options = {});
  ~DocumentReader();
  DocumentReader(DocumentReader&&) noexcept;
  DocumentReader& operator=(DocumentReader&&) noexcept;

  /// The next document, or false at the end.
  bool next(Document& document);
  const SkippedLines& skipped() const;  ///< so far

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The files that patterns name, as in base::glob; "-" is standard input. A pattern without a file and "-"
/// twice are input errors.
std::vector<std::filesystem::path> find_texts(std::span<const std::string> patterns);
/// Throws an input error for "-" twice.
void check_read_once(std::span<const std::string> patterns);
/// False for "-" and other pipes.
bool can_be_read_again(const std::filesystem::path& file);

/// Several files, one after the other. Patterns as in find_texts.
class DocumentSet {
 public:
  explicit DocumentSet(std::vector<std::filesystem::path> files, ReaderOptions options = {});
  static DocumentSet from_patterns(const std::vector<std::string>& patterns, ReaderOptions options = {});
  bool next(Document& document);
  std::size_t file_index() const noexcept { return index_; }  ///< of the document returned last
  SkippedLines skipped() const;                               ///< of all files so far
  /// Of each file so far; empty before the first next().
  const std::vector<SkippedLines>& skipped_by_file() const noexcept { return skipped_; }
  const std::vector<std::filesystem::path>& files() const noexcept { return files_; }

 private:
  std::vector<std::filesystem::path> files_;
  ReaderOptions options_;
  std::optional<DocumentReader> reader_;
  std::vector<SkippedLines> skipped_;
  std::size_t index_ = 0;
};

/// Throws the input error of texts that hold no document.
[[noreturn]] void fail_without_documents(const std::string& name, const SkippedLines& skipped);

/// All documents of the files in memory. Throws an input error when there is none.
std::vector<Document> read_documents(const std::vector<std::filesystem::path>& files,
                                     const ReaderOptions& options = {});

}  // namespace fairway::data
