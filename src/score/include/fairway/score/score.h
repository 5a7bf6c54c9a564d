#pragma once
// Scoring a text with a model that is handed in as an interface.

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <stop_token>
#include <string>
#include <variant>
#include <vector>

#include "fairway/base/progress.h"
#include "fairway/score/ledger.h"
#include "fairway/score/window_plan.h"

namespace fairway::score {

/// Computes the negative log-likelihoods of batches of windows. One compiled Program for each value of
/// `score_last` (WindowPlan::score_lengths()) is enough. Windows are independent of each other: every row
/// starts without context at position 0.
class WindowScorer {
 public:
  virtual ~WindowScorer() = default;
  virtual int rows() const = 0;  ///< windows in one call, >= 1
  /// inputs [rows x S], S as in the plan; targets and nll [rows x score_last]: the last `score_last`
  /// positions of each row. nll in nats, fp32. Unused rows and the padding at the right end of short windows
  /// hold token 0; their nll is ignored.
  virtual void score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets,
                     int score_last, std::span<float> nll) = 0;
};

/// Tokens in somebody else's memory: 16-bit as in shards, or 32-bit.
class TokenView {
 public:
  TokenView(std::span<const std::uint16_t> tokens) : tokens_(tokens) {}  // NOLINT: conversion intended
  TokenView(std::span<const std::int32_t> tokens) : tokens_(tokens) {}   // NOLINT
  std::int64_t size() const;
  std::int32_t operator[](std::int64_t index) const;
  void copy(std::int64_t first, std::span<std::int32_t> out) const;  ///< tokens [first, first + out.size())

 private:
  std::variant<std::span<const std::uint16_t>, std::span<const std::int32_t>> tokens_;
};

/// Bytes of original text that target t, token t + 1, stands for behind the tokens up to t.
using ByteCounter = std::function<std::int32_t(const TokenView& tokens, std::int64_t t)>;

/// The text behind the first `targets` targets: a plan may leave some of the last ones out.
using TextSource = std::function<TextReference(std::int64_t targets)>;

struct ScoreOptions {
  std::string byte_rule = "challenge";  ///< named in the result
  TextSource text = {};                 ///< without it no score is valid
  base::ProgressSink* progress = nullptr;
  std::stop_token stop;
  /// Part of a count model over the same stream in each distribution (ppm.h); 0: none. It needs the
  /// vocabulary.
  double ppm_weight = 0;
  std::int32_t vocab_size = 0;
};

struct ScoreResult {
  double loss = 0;           ///< nats for each token
  double bits_per_byte = 0;  ///< NaN when the scored tokens stand for no bytes at all
  double nll = 0;            ///< nats in all
  std::int64_t tokens = 0, bytes = 0;
  std::int64_t text_bytes = 0;  ///< of the text behind the targets, each target once
  std::int64_t windows = 0, skipped_targets = 0;
  std::int32_t window = 0, stride = 0;
  bool by_documents = false;  ///< WindowPlan::documents
  Tail tail = Tail::clean;
  double seconds = 0;
  double side_information_bits = 0;
  std::string rule;  ///< byte rule
  Verdict verdict;
  std::vector<DocumentScore> documents;
  nlohmann::ordered_json to_json() const;  ///< one object; keys as the members, "verdict" as its text,
                                           ///< "by_documents" where it is so
};

/// Scores `tokens` by `plan` (made for exactly that many tokens). Throws base::Error: a NaN names target,
/// window and position; `interrupted` on a stop request, between batches.
ScoreResult score(const WindowPlan& plan, TokenView tokens, WindowScorer& model, const ByteCounter& count,
                  const ScoreOptions& options = {});

/// What a ledger over the plan's targets expects.
LedgerOptions ledger_options(const WindowPlan& plan, const TextSource& text);

/// The result of a ledger that something else filled (test-time training, codec).
ScoreResult result_of(const ScoreLedger& ledger, std::string byte_rule);

}  // namespace fairway::score
