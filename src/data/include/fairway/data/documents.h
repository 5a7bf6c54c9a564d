#pragma once
// Documents from .txt and .jsonl files, each also .gz, .xz or .zst.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fairway::data {

/// How a .txt file is cut into documents.
enum class SplitOn {
  file,        ///< one file, one document
  blank_line,  ///< paragraphs; lines of white space only part them
  line,        ///< every line that is not empty
};
std::optional<SplitOn> parse_split_on(std::string_view name);  ///< "file", "blank-line", "line"
std::string_view split_on_name(SplitOn split);

struct ReaderOptions {
  SplitOn split_on = SplitOn::file;
  std::string field = "text";  ///< .jsonl: the key that holds the document
  bool skip_empty = false;     ///< empty documents are left out instead of being an error
  std::uint64_t min_document_bytes =
      0;  ///< blank_line: paragraphs are joined (with one empty line) until this size
  std::uint64_t max_document_bytes = std::uint64_t{1} << 30;  ///< a longer document or line is an error
};

struct Document {
  std::string text;
  std::uint64_t number = 0;  ///< from 1 within its file; for .jsonl and `line` the line number
  std::string where;         ///< "FILE: line 12" or "FILE: document 3", for messages
};

/// Reads a file's documents in order, in memory bounded by the largest document. Text is checked to be UTF-8.
/// Throws an input error naming file, document or line and byte: truncated or damaged compression, bad JSON,
/// missing field, invalid UTF-8, empty document, unknown file name extension.
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

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Several files, one after the other. Patterns as in base::glob; no match is an input error.
class DocumentSet {
 public:
  explicit DocumentSet(std::vector<std::filesystem::path> files, ReaderOptions options = {});
  static DocumentSet from_patterns(const std::vector<std::string>& patterns, ReaderOptions options = {});
  bool next(Document& document);
  std::size_t file_index() const noexcept { return index_; }  ///< of the document returned last
  const std::vector<std::filesystem::path>& files() const noexcept { return files_; }

 private:
  std::vector<std::filesystem::path> files_;
  ReaderOptions options_;
  std::optional<DocumentReader> reader_;
  std::size_t index_ = 0;
};

/// All documents of the files in memory. Throws an input error when there is none.
std::vector<Document> read_documents(const std::vector<std::filesystem::path>& files,
                                     const ReaderOptions& options = {});

}  // namespace fairway::data
