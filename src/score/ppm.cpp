#include "fairway/score/ppm.h"

#include <cmath>

#include "fairway/base/error.h"

namespace fairway::score {

PpmC::PpmC(std::int32_t vocab_size) : vocab_size_(vocab_size) {
  base::check(vocab_size >= 1, "PPM over a vocabulary of {}", vocab_size);
  counts_.resize(static_cast<std::size_t>(vocab_size));
  contexts_.resize(static_cast<std::size_t>(vocab_size));
}

std::uint64_t PpmC::pair(std::int32_t symbol, std::int32_t context) const {
  base::check(symbol >= 0 && symbol < vocab_size_ && context >= 0 && context < vocab_size_,
              "tokens {} and {} of a vocabulary of {}", context, symbol, vocab_size_);
  return static_cast<std::uint64_t>(context) * static_cast<std::uint64_t>(vocab_size_) +
         static_cast<std::uint64_t>(symbol);
}

double PpmC::escape(std::uint64_t count, const Total& total, double lower) {
  if (total.tokens == 0) return lower;
  const auto different = static_cast<double>(total.different);
  return (static_cast<double>(count) + different * lower) / (static_cast<double>(total.tokens) + different);
}

double PpmC::probability(std::int32_t symbol, std::int32_t context) const {
  const auto found = pairs_.find(pair(symbol, context));
  const double order0 = escape(counts_[static_cast<std::size_t>(symbol)], all_, 1.0 / vocab_size_);
  return escape(found == pairs_.end() ? 0 : found->second, contexts_[static_cast<std::size_t>(context)],
                order0);
}

void PpmC::add(std::int32_t symbol, std::int32_t context) {
  const auto count = [](std::uint64_t& n, Total& total) {
    total.different += n == 0;
    ++total.tokens;
    ++n;
  };
  count(pairs_[pair(symbol, context)], contexts_[static_cast<std::size_t>(context)]);
  count(counts_[static_cast<std::size_t>(symbol)], all_);
}

std::span<const float> PpmBlend::apply(std::int64_t first, TokenView tokens, std::span<const float> nll) {
  mixed_.assign(nll.begin(), nll.end());
  for (std::size_t i = 0; i < nll.size(); ++i) {
    const auto target = first + static_cast<std::int64_t>(i);
    if (target < next_) continue;
    const auto input = tokens[target], token = tokens[target + 1];
    const double p =
        (1 - weight_) * std::exp(-static_cast<double>(nll[i])) + weight_ * ppm_.probability(token, input);
    mixed_[i] = static_cast<float>(-std::log(p));
    ppm_.add(token, input);
    next_ = target + 1;
  }
  return mixed_;
}

std::string PpmBlend::note() const {
  return fmt::format("{} of each distribution is a count model of the text before it (PPM-C, order 1)",
                     weight_);
}

}  // namespace fairway::score
