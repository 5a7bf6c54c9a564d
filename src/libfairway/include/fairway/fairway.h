#pragma once
// The public library: open a packed model, score, predict and generate; train one from a recipe.
//
//   fairway::Model model = fairway::Model::open("runs/a/model.fairway");
//   double bits = model.score("Some text.").bits_per_byte;
//
// Objects may be moved between threads but used by one at a time. Nothing here prints, exits or keeps global
// state. Every failure is a fairway::Error with one line that says what, where and what to do.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#define FAIRWAY_API __attribute__((visibility("default")))

namespace fairway {

/// What went wrong; `code` is the exit code the program would end with (2: input, 1: failure, 130:
/// interrupted).
class FAIRWAY_API Error : public std::runtime_error {
 public:
  Error(int code, const std::string& message) : std::runtime_error(message), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

struct ModelOptions {
  int threads = 0;  ///< 0: one for each core; never changes a result
};

struct ScoreOptions {
  int stride = -1;  ///< 0: windows without overlap; -1: the recipe's stride
};

struct Score {
  double loss = 0;  ///< nats per token
  double bits_per_byte = 0;
  std::int64_t tokens = 0, bytes = 0;
  std::string rule;     ///< byte rule: "challenge", "exact" or "surface"
  std::string verdict;  ///< "valid", or the condition that is broken
};

struct GenerateOptions {
  int tokens = 128;          ///< at most; a new document ends the text earlier
  double temperature = 0.8;  ///< 0: always the most likely token
  int top_k = 40;            ///< 0: all
  std::uint64_t seed = 1337;
  std::function<void(std::string_view)> on_text = {};  ///< pieces of complete UTF-8 as they come
};

/// A packed model (.fairway) or a checkpoint (.fwck). What a call builds to run it, threads and programs, is
/// kept for the next ones.
class FAIRWAY_API Model {
 public:
  static Model open(const std::string& path, const ModelOptions& options = {});
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  int vocab_size() const;
  int window() const;  ///< tokens the model sees at most
  std::int64_t parameters() const;
  std::string recipe() const;  ///< TOML
  std::vector<std::int32_t> encode(std::string_view text) const;
  std::string decode(std::span<const std::int32_t> tokens) const;

  /// Scores a text as one document, through the score ledger.
  Score score(std::string_view text, const ScoreOptions& options = {}, std::stop_token stop = {}) const;
  /// Logits [vocab_size] of the token after `tokens` (at least one; begin with encode's ids behind BOS = 1
  /// for text).
  std::vector<float> logits(std::span<const std::int32_t> tokens) const;
  std::string generate(std::string_view prompt, const GenerateOptions& options = {},
                       std::stop_token stop = {}) const;
  /// All weights as fp32 safetensors.
  void export_safetensors(const std::string& path) const;

 private:
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct TrainStep {
  std::int64_t step = 0, total = 0;
  double loss = 0, tokens_per_second = 0;
};

struct TrainOptions {
  std::vector<std::string> set = {};  ///< overrides, "train.steps=100"
  std::string scale = "full";         ///< "tiny", "small", "full"
  int threads = 0;
  bool resume = false;
  std::function<void(const TrainStep&)> on_step = {};
};

/// Runs a recipe (a file, or the name of a built-in one) into the folder `out`: model.fairway, result.json,
/// ... Returns result.json's text. A requested stop finishes the step, saves and throws an Error with code
/// 130.
FAIRWAY_API std::string train(const std::string& recipe, const std::string& out,
                              const TrainOptions& options = {}, std::stop_token stop = {});

/// "fairway 0.1.0".
FAIRWAY_API std::string version();

}  // namespace fairway
