#include "fairway/text/train.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <unordered_map>

#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/text/caseops.h"
#include "model_proto.h"

namespace fairway::text {
namespace {

using base::fail_input;

// The trainer skips sentences over max_sentence_length; BPE keeps positions in 16 bits. Cut at white space.
constexpr std::size_t kSentenceBytes = 4000;

// Hands documents to the trainer in "sentences" that keep their newlines, so that newline pieces can be
// learned. Characters that the trainer takes for its own are cut out (they fall back to bytes): U+2581 (its
// space), U+2585 (its unknown), TAB (a boundary mark) and NUL.
Markers markers_of(const TrainTokenizerOptions& options) {
  return options.fuse_markers ? Markers::fused : Markers::apart;
}

class Sentences final : public sentencepiece::SentenceIterator {
 public:
  Sentences(const DocumentSource& source, const TrainTokenizerOptions& options)
      : source_(source), left_(options.max_bytes), options_(options) {
    Next();
  }
  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }
  void Next() override {
    do {
      if (position_ == document_.size() && !load()) {
        done_ = spaces_;
        // A character that is required must occur.
        if (!spaces_) sentence_ = " ", spaces_ = true;
        return;
      }
      cut();
    } while (sentence_.empty());
  }
  /// The documents used, as they are.
  const std::vector<std::string>& documents() const { return documents_; }

 private:
  bool load() {
    std::string document;
    if (left_ == 0 || !source_(document)) return false;
    documents_.push_back(std::move(document));
    document_ = documents_.back();
    position_ = 0;
    left_ -= std::min<std::uint64_t>(left_, document_.size());
    if (const auto bad = base::invalid_utf8_at(document_))
      fail_input("document {}: not valid UTF-8 at byte {}; convert the text to UTF-8", documents_.size(),
                 *bad);
    if (options_.case_operators) document_ = spelled_ = caseops_encode(document_, markers_of(options_));
    return true;
  }

  // Length of a character that must not reach the trainer, or 0.
  static std::size_t reserved(std::string_view rest) {
    if (rest.starts_with('\t') || rest.starts_with('\0')) return 1;
    return rest.starts_with("\xE2\x96\x81") || rest.starts_with("\xE2\x96\x85") ? 3 : 0;
  }

  void cut() {
    const std::string_view rest = document_.substr(position_);
    std::size_t end = 0, space = 0;
    while (end < rest.size() && end < kSentenceBytes && reserved(rest.substr(end)) == 0) {
      if (rest[end] == ' ' && end > 0 && rest[end - 1] != ' ') space = end;
      ++end;
    }
    if (end == kSentenceBytes && end < rest.size()) {
      if (space > 0) end = space;
      while ((static_cast<unsigned char>(rest[end]) & 0xC0) == 0x80) --end;  // not inside a character
    }
    sentence_ = rest.substr(0, end);
    spaces_ = spaces_ || sentence_.find(' ') != std::string::npos;
    position_ += end;
    if (end < rest.size()) position_ += reserved(rest.substr(end));
  }

  const DocumentSource& source_;
  std::uint64_t left_;
  const TrainTokenizerOptions& options_;
  std::string spelled_;  // the last document with its operators
  std::vector<std::string> documents_;
  std::string_view document_;  // the last one; read to its end before the next one moves it
  std::string sentence_;
  std::size_t position_ = 0;
  bool spaces_ = false, done_ = false;
};

using Arguments = std::unordered_map<std::string, std::string>;

Arguments arguments(const TrainTokenizerOptions& options) {
  Arguments result = {
      {"vocab_size", std::to_string(options.vocab_size)},
      {"model_type", options.type == ModelType::bpe ? "bpe" : "unigram"},
      // The space is in every vocabulary, however rare in this text: as bytes it would come back as U+2581.
      {"required_chars", "\xE2\x96\x81"},
      {"character_coverage", fmt::format("{}", options.character_coverage)},
      {"max_sentencepiece_length", std::to_string(options.max_piece_length)},
      {"max_sentence_length", "16384"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"byte_fallback", "true"},
      {"split_digits", options.split_digits ? "true" : "false"},
      {"pad_id", "0"},
      {"bos_id", "1"},
      {"eos_id", "2"},
      {"unk_id", "3"},
      {"shuffle_input_sentence", "false"},  // SentencePiece would draw from a random device
      {"num_threads", "1"},                 // unigram training sums floats per thread
      {"minloglevel", "4"},
  };
  if (options.case_operators) {
    auto& symbols = result["user_defined_symbols"];
    for (int i = 0; i < (options.fuse_markers ? fused_operator_count : case_operator_count); ++i)
      symbols.append(i ? "," : "").append(case_operator_text(static_cast<CaseOperator>(i)));
  }
  return result;
}

void check_options(const TrainTokenizerOptions& options) {
  if (options.vocab_size < 300 || options.vocab_size > 65536)
    fail_input(
        "tokenizer vocabulary of {}: give 300 to 65536 (4 special and 256 byte pieces are always in it)",
        options.vocab_size);
  if (!(options.character_coverage >= 0.98 && options.character_coverage <= 1.0))
    fail_input("character coverage of {}: give 0.98 to 1", options.character_coverage);
  if (options.fuse_markers && !options.case_operators)
    fail_input("markers are fused in tokenizers with case operators only");
  if (options.max_piece_length < 1 || options.max_piece_length > 64)
    fail_input("pieces of {} characters: give 1 to 64", options.max_piece_length);
}

[[noreturn]] void fail_training(const TrainTokenizerOptions& options, std::string message) {
  // "./src/trainer_interface.cc(660) [condition] What is wrong.": the user needs the last part.
  if (const auto end = message.rfind("] "); end != std::string::npos) message.erase(0, end + 2);
  std::replace_if(
      message.begin(), message.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  fail_input(
      "no tokenizer of {} pieces can be trained on this text ({}); change the vocabulary size or give more "
      "text",
      options.vocab_size, message.substr(0, message.find_last_not_of(". ") + 1).substr(0, 200));
}

/// Lossless on the hostile text (which lossless() is) and on every document that it learnt from.
void prove_lossless(const Tokenizer& tokenizer, const std::vector<std::string>& documents) {
  if (!tokenizer.lossless())
    base::fail(
        "the trained tokenizer does not give a text back as it was; please report the text it learnt from");
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    if (documents[i].empty()) continue;
    ids.clear();
    tokenizer.encode(documents[i], ids);
    if (tokenizer.decode(ids) != documents[i])
      base::fail("the trained tokenizer does not give document {} back as it was; please report that text",
                 i + 1);
  }
}

}  // namespace

Tokenizer train_tokenizer(const DocumentSource& documents, const TrainTokenizerOptions& options) {
  check_options(options);
  Sentences sentences(documents, options);
  if (std::ranges::all_of(sentences.documents(), &std::string::empty))
    fail_input("no text to train a tokenizer on");
  std::string model;
  try {
    const auto status = sentencepiece::SentencePieceTrainer::Train(arguments(options), &sentences, &model);
    if (!status.ok()) fail_training(options, status.error_message());
  } catch (const base::Error&) {
    throw;
  } catch (const std::exception& error) {
    fail_training(options, error.what());
  }
  model += transform_field(transform_name(options.fuse_markers     ? Transform::caseops_fused_lossless_v1
                                          : options.case_operators ? Transform::caseops_lossless_v1
                                                                   : Transform::lossless_v1));
  auto tokenizer =
      Tokenizer::from_bytes(std::as_bytes(std::span(model.data(), model.size())), "trained tokenizer");
  prove_lossless(tokenizer, sentences.documents());
  return tokenizer;
}

Tokenizer train_tokenizer(const std::vector<std::string_view>& documents,
                          const TrainTokenizerOptions& options) {
  std::size_t next = 0;
  return train_tokenizer(
      [&](std::string& document) {
        if (next == documents.size()) return false;
        document = documents[next++];
        return true;
      },
      options);
}

}  // namespace fairway::text
