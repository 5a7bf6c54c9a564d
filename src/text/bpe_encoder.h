#pragma once
// SentencePiece's BPE encoding without its protocol buffers and whole-text agenda: the same ids, several
// times faster. A piece holds U+2581 only at its start, so no merge crosses from a letter to a space: the
// text falls into words that can be merged one by one, each with an agenda of a few entries. Tests hold it to
// SentencePiece's ids.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/text/caseops.h"
#include "model_proto.h"

namespace fairway::text {

// The normaliser of SentencePiece 0.1.97 (normalizer.cc, Normalize and NormalizePrefix) without user-defined
// symbols.
class Normalizer {
 public:
  explicit Normalizer(const NormalizerSpec& spec);
  // `text` is valid UTF-8; replaces `out`.
  void normalize(std::string_view text, std::string& out) const;

 private:
  // What the text begins with becomes; `consumed` bytes of it. The view lives in `text` or in this object.
  std::string_view prefix(std::string_view text, std::size_t& consumed) const;

  std::vector<std::uint32_t> trie_;  // Darts double array; empty: identity
  std::string replacements_;         // NUL-terminated
  std::vector<bool> plain_;          // [first * 128 + second] ASCII pairs of which the first stays as it is
  bool add_dummy_prefix_, remove_extra_whitespaces_;
};

class BpeEncoder {
 public:
  // Nothing when the model needs more than this does (unigram, user-defined pieces but case operators, unused
  // ones, no byte fallback ...).
  static std::unique_ptr<const BpeEncoder> create(const ModelProto& model);
  BpeEncoder(const BpeEncoder&) = delete;  // slots_ points into pieces_
  BpeEncoder& operator=(const BpeEncoder&) = delete;
  // Appends the ids of valid UTF-8 `text`.
  void encode(std::string_view text, std::vector<std::int32_t>& out) const;

 private:
  explicit BpeEncoder(const ModelProto& model);
  struct Workspace;
  struct Slot {
    std::string_view piece;  // empty: free
    std::int32_t id = -1;
  };
  std::int32_t operator_id(std::string_view text) const;
  std::int32_t find(std::string_view piece) const;  // id of a normal piece, or -1
  void encode_word(std::string_view word, Workspace& work, std::vector<std::int32_t>& out) const;
  void merge_word(std::string_view word, Workspace& work, std::vector<std::int32_t>& out) const;
  void push_pair(std::string_view word, std::int32_t left, std::int32_t right, Workspace& work) const;

  Normalizer normalizer_;
  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::vector<Slot> slots_;  // open addressing, a power of two
  std::uint64_t identity_;   // of pieces and scores: equal ones give equal ids
  std::int32_t byte_ids_[256];
  std::int32_t operator_ids_[fused_operator_count] = {-1, -1, -1, -1, -1, -1};
};

}  // namespace fairway::text
