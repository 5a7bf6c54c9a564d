#pragma once
// The score ledger: the one place where bits and bytes are counted (docs/spec/evaluation.md sections 1 and 5,
// docs/legality.md).

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/score/combine.h"

namespace fairway::score {

class SeenTargets;

/// The four validity conditions (docs/spec/evaluation.md section 5), and the one that bits are divided by.
enum class Condition {
  causal,               ///< C1: the distribution depends on the artifact and earlier tokens only
  normalised,           ///< C2: one full distribution, fixed before the token is seen
  score_before_update,  ///< C3: the score is fixed before any state change that uses the token
  single_pass,          ///< C4: one pass in order, one score for each token
  text_bytes,           ///< the bytes counted are at most those of the text itself
};
std::string_view condition_name(Condition condition);  ///< "C1 strict causal dependence", ...
constexpr int condition_count = 5;

enum class VerdictKind { valid, valid_with_side_information, not_a_code_length };

struct Verdict {
  VerdictKind kind = VerdictKind::valid;
  std::vector<Condition> broken;   ///< in the conditions' order
  std::string reason;              ///< "C4 single left-to-right pass: target 17 scored twice", one part for
                                   ///< each broken condition; empty when valid
  std::vector<std::string> notes;  ///< recorded deviations that do not change the verdict (published tail)
  bool valid() const { return kind != VerdictKind::not_a_code_length; }
  /// "valid", "valid with side information", or "not a code length: <reason>".
  std::string text() const;
};

/// A run of targets committed one after the other: [first, first + count).
struct CommitRun {
  std::int64_t first = 0, count = 0;
  bool operator==(const CommitRun&) const = default;
};

/// One document of the text: where its targets begin and how many of its own bytes they stand for.
struct DocumentText {
  std::int64_t first_target = 0;
  std::int64_t bytes = 0;
  bool operator==(const DocumentText&) const = default;
};

/// The text behind the targets. Whatever a byte rule counts, this many bytes are all there is to restore.
struct TextReference {
  /// What says so. Where nothing but tokens is at hand (shards), the bytes are those that the tokens decode
  /// to, which can be wrong in the way the count is, or, for counts of a side-car, the side-car's own (a run
  /// of white space decodes to one): these are valid only where they sum to no more than the tokens decode
  /// to, for nothing else is known to be restorable. The verdict notes both.
  enum class From { text, decoded, side_car };

  std::vector<DocumentText> documents = {};  ///< ascending, the first one at target 0; bytes of targets only
  From from = From::text;
  std::int64_t decoded_bytes = 0;  ///< of side_car: what the tokens decode to
  std::int64_t bytes() const;      ///< of all documents
  /// The most that a score may count.
  std::int64_t restorable() const { return from == From::side_car ? decoded_bytes : bytes(); }
};

/// Sums over the targets of one document, each counted once.
struct DocumentScore {
  std::int64_t first_target = 0;
  std::int64_t tokens = 0, bytes = 0;
  std::int64_t text_bytes = 0;  ///< of the document itself
  double nll = 0;               ///< nats
};

struct LedgerOptions {
  std::int64_t targets = 0;  ///< targets 0 ... targets - 1 are expected, each once
  /// Targets from here on may be scored again (the published tail); the repeats count and are noted.
  std::optional<std::int64_t> repeats_allowed_from = std::nullopt;
  /// What the counted bytes are held against. Without it no score is valid.
  TextReference text = {};
};

/// How scores came about: what each of the weights that made them had learnt from, and how their scores
/// became one. The verdict follows from it. Empty: weights as they came out of the artifact.
struct ScoreOrigin {
  std::vector<const SeenTargets*> weights = {};
  Combination combination = Combination::single;
};

/// Counts each target's bits as they are committed. Sums are fp64 in commit order. Not thread-safe.
///
/// A valid score is never better than the text allows: its bits per byte are at least the bits that each
/// target took when it was first scored, over the bytes of the text itself. So the counted bytes may not
/// exceed the text's, and targets scored again (the published tail) may not make the score better.
class ScoreLedger {
 public:
  explicit ScoreLedger(LedgerOptions options);

  /// Enters targets first, first + 1, ... with the nats the model gave them before it could learn from them
  /// and the bytes of text they stand for. A NaN or infinite nll is a failure that names the target.
  /// Conditions that `origin` shows broken are in the verdict from then on.
  void commit(std::int64_t first, std::span<const float> nll, std::span<const std::int32_t> bytes,
              const ScoreOrigin& origin = {});
  /// Bits that a decoder needs besides the tokens (a permutation, lengths); they are added to the score.
  void add_side_information(double bits, std::string what);
  /// The door for protocols that are not code lengths: the verdict names the condition from now on. The
  /// first reason for each condition stays.
  void declare_broken(Condition condition, std::string why);

  bool committed(std::int64_t target) const;
  /// Targets 0 ... committed_prefix() - 1 are all committed: what `adapt` may learn from.
  std::int64_t committed_prefix() const { return prefix_; }
  std::int64_t repeats() const { return repeats_; }  ///< entries of targets that had a score already
  const std::vector<CommitRun>& order() const { return order_; }  ///< the order of commitment
  const std::vector<DocumentScore>& documents() const { return documents_; }

  std::int64_t tokens() const { return tokens_; }          ///< entries, repeats counted
  std::int64_t bytes() const { return bytes_; }            ///< counted for all entries
  std::int64_t text_bytes() const { return text_bytes_; }  ///< of the text that the targets stand for
  double nll() const { return nll_; }                      ///< nats of all entries
  double side_bits() const { return side_bits_; }
  double loss() const;           ///< nats for each token; an input error when nothing is committed
  double bits_per_byte() const;  ///< side information included; an input error when there are no bytes
  Verdict verdict() const;       ///< also says when a target was never scored

 private:
  void mark(std::int64_t target);
  void judge(std::int64_t first, std::int64_t end, const ScoreOrigin& origin);
  void judge(std::int64_t first, std::int64_t end, const CommitRun& learnt);
  void enter(std::int64_t target, double nll, std::int64_t bytes, DocumentScore* document);
  std::string too_many_bytes() const;
  std::string flattering_repeats() const;
  void note_documents(std::vector<std::string>& notes) const;
  std::string& broken(Condition condition) { return broken_[static_cast<std::size_t>(condition)]; }
  LedgerOptions options_;
  std::vector<std::uint64_t> seen_;  // one bit for each target
  std::vector<CommitRun> order_;
  std::vector<DocumentScore> documents_;
  std::vector<std::string> side_;
  std::array<std::string, condition_count> broken_;
  std::string out_of_order_;
  std::int64_t prefix_ = 0, highest_ = -1, tokens_ = 0, bytes_ = 0, repeats_ = 0, text_bytes_ = 0;
  std::int64_t first_bytes_ = 0;  // of first entries only
  double nll_ = 0, first_nll_ = 0, side_bits_ = 0;
};

}  // namespace fairway::score
