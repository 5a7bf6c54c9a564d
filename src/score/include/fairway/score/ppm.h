#pragma once
// A count model mixed into the model's distributions (PR 398's ablation, docs/spec/ttt.md section 7): PPM of
// order 1 with method-C escapes, over the token stream.
//
// A context c that was followed by T_c tokens, D_c of them different, gives a token x that followed it n_cx
// times
//   p_1(x | c) = (n_cx + D_c p_0(x)) / (T_c + D_c),   p_0(x) = (n_x + D / V) / (T + D)
// with the counts of the whole stream in p_0 and the uniform distribution below. The escape mass D / (T + D)
// is method C's; lower orders are interpolated rather than backed off to, so that each order sums to one
// exactly: without that (or exclusions) the published form sums to less than one, and with a floor of 1/1024
// under every probability to more, which would be no code length. 0.95 p_model + 0.05 p_ppm is then one
// normalised distribution, and it is causal because a token is counted only after it was scored: the verdict
// stays `valid`.

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "fairway/score/score.h"

namespace fairway::score {

class PpmC {
 public:
  explicit PpmC(std::int32_t vocab_size);
  /// p_1(symbol | context). Both within the vocabulary.
  double probability(std::int32_t symbol, std::int32_t context) const;
  void add(std::int32_t symbol, std::int32_t context);

 private:
  struct Total {
    std::uint64_t tokens = 0, different = 0;
  };
  static double escape(std::uint64_t count, const Total& total, double lower);
  std::uint64_t pair(std::int32_t symbol, std::int32_t context) const;

  std::int32_t vocab_size_;
  Total all_;
  std::vector<std::uint64_t> counts_;                       // n_x
  std::vector<Total> contexts_;                             // T_c, D_c
  std::unordered_map<std::uint64_t, std::uint64_t> pairs_;  // n_cx
};

/// Turns the model's nll into those of the mixture, target by target in the text's order.
class PpmBlend {
 public:
  /// `weight`: part of the count model, 0 to 1.
  PpmBlend(std::int32_t vocab_size, double weight) : ppm_(vocab_size), weight_(weight) {}
  /// Scores of targets first, first + 1, ...: tokens first + 1 and so on, each after the token before it. A
  /// target that was scored before (the published tail) keeps the model's own score: the counts know it
  /// already. One that is left out is never counted. The result stands until the next call.
  std::span<const float> apply(std::int64_t first, TokenView tokens, std::span<const float> nll);
  std::string note() const;  ///< for the verdict

 private:
  PpmC ppm_;
  double weight_;
  std::vector<float> mixed_;
  std::int64_t next_ = 0;
};

}  // namespace fairway::score
