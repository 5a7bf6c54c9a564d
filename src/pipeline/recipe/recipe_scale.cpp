#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <optional>

#include "fairway/base/error.h"
#include "fairway/base/pattern.h"
#include "fairway/base/text.h"
#include "fairway/model/family.h"
#include "fairway/quant/policy.h"
#include "recipe/recipe_parse.h"

namespace fairway::pipeline {
namespace {

/// Upper limits of a scale. What is smaller already stays.
struct Limits {
  int steps, layers, width, window, vocab_size, side_dim;  // side_dim: bigram and value embedding
  std::int64_t batch_tokens, score_tokens, train_bytes;
  int stride_part;  // smallest stride: window / stride_part
  int adapt_epochs, adapt_windows;
};
constexpr Limits kTiny{40, 4, 128, 128, 512, 32, 2'048, 16'384, 1 << 21, 4, 3, 4};
constexpr Limits kSmall{200, 6, 192, 256, 1024, 64, 8'192, 131'072, 1 << 24, 8, 5, 8};
constexpr int kHeadDim = 32;

int largest_divisor(int of, int at_most) {
  int d = std::clamp(at_most, 1, of);
  while (of % d != 0) --d;
  return d;
}

/// Layers keep their distance from the last one.
void keep_last(std::vector<int>& layers, int old_count, int new_count) {
  std::vector<int> kept;
  for (int layer : layers)
    if (int moved = layer - old_count + new_count; moved >= 0) kept.push_back(moved);
  layers = kept;
}

/// Layers keep their place in the order, as nearly as there are layers.
void keep_place(std::vector<int>& layers, int old_count, int new_count) {
  std::vector<int> kept;
  for (int layer : layers)
    if (const int moved = layer * new_count / old_count; kept.empty() || kept.back() != moved)
      kept.push_back(moved);
  layers = kept;
}

/// Pieces of rows and windows of scores keep their part of the window.
void shrink_window(Recipe& recipe, const Limits& limits) {
  auto& window = recipe.model.window;
  if (window <= limits.window) return;
  for (auto& piece : recipe.train.windows)
    piece = std::max(2, static_cast<int>(std::int64_t{piece} * limits.window / window));
  auto& scored = recipe.score.window;
  if (scored > 0) scored = std::max(2, static_cast<int>(std::int64_t{scored} * limits.window / window));
  window = limits.window;
}

void shrink_model(Recipe& recipe, const Limits& limits) {
  auto& m = recipe.model;
  const int old_layers = m.layers, old_heads = m.heads;
  m.layers = std::min(m.layers, limits.layers);
  keep_last(m.ve_layers, old_layers, m.layers);
  keep_last(m.xsa_layers, old_layers, m.layers);
  keep_place(m.loop_layers, old_layers, m.layers);
  keep_place(m.parallel_layers, old_layers, m.layers);
  // Both may have come to lie on one layer, and lanes begin behind the loop.
  if (!m.loop_layers.empty())
    std::erase_if(m.parallel_layers, [&](int layer) { return layer <= m.loop_layers.back(); });
  if (m.width > limits.width) {
    // Matrices shrink with the square of the width: the same ones stay above the limit and are quantised.
    const double part = static_cast<double>(limits.width) / m.width;
    auto& limit = recipe.quant.policy.passthrough_limit;
    limit = std::llround(static_cast<double>(limit) * part * part);
    m.width = limits.width;
    m.heads = std::min(m.heads, std::max(1, m.width / kHeadDim));
    m.heads = largest_divisor(m.width, m.heads);
    m.kv_heads = largest_divisor(m.heads, std::max(1, m.heads * m.kv_heads / old_heads));
    m.rope_dims = std::min(m.rope_dims, m.head_dim());
    // Hadamard's basis is there for powers of two only.
    if (!std::has_single_bit(static_cast<unsigned>(m.width)))
      recipe.quant.policy.rotation = quant::Rotation::none;
  }
  shrink_window(recipe, limits);
  m.bigram_dim = std::min(m.bigram_dim, limits.side_dim);
  m.ve_dim = std::min(m.ve_dim, limits.side_dim);
  if (recipe.data.tokenizer.empty()) m.vocab_size = std::min(m.vocab_size, limits.vocab_size);
}

/// A limit of 0 means none.
void limit_to(std::int64_t& value, std::int64_t limit) {
  value = value == 0 ? limit : std::min(value, limit);
}

void shrink_work(Recipe& recipe, const Limits& limits) {
  auto& train = recipe.train;
  const std::int64_t unit = std::int64_t{recipe.data.slices} * recipe.model.window;
  train.batch_tokens = std::max(unit, std::min(train.batch_tokens, limits.batch_tokens) / unit * unit);
  train.micro_batch = 0;
  limit_to(recipe.data.train_bytes, limits.train_bytes);
  recipe.quant.calibration_batches = std::min(recipe.quant.calibration_batches, 4);
  limit_to(recipe.quant.calibration_tokens, 4096);
  limit_to(recipe.score.tokens, limits.score_tokens);
  if (recipe.score.stride > 0)
    recipe.score.stride =
        std::clamp(recipe.score.stride, recipe.model.window / limits.stride_part, evaluated(recipe).window);
}

/// "last:K" of more blocks than are left: as many of the first ones stay frozen.
void keep_frozen(std::vector<std::string>& train, int old_count, int new_count) {
  for (auto& selector : train) {
    int k = 0;
    if (!selector.starts_with("last:")) continue;
    const auto* end = selector.data() + selector.size();
    const auto parsed = std::from_chars(selector.data() + 5, end, k);
    if (parsed.ec == std::errc() && parsed.ptr == end && k > new_count && k <= old_count)
      selector = fmt::format("last:{}", std::max(1, k - old_count + new_count));
  }
}

void shrink_adaptation(AdaptConfig& adapt, const Limits& limits) {
  for (auto& phase : adapt.phases) phase.epochs = std::min(phase.epochs, limits.adapt_epochs);
  adapt.batch_windows = std::min(adapt.batch_windows, limits.adapt_windows);
  adapt.chunk_windows = std::min(adapt.chunk_windows, limits.adapt_windows);
}

/// Everything counted in steps shrinks by one factor; what was on stays on.
void shrink_steps(Recipe& recipe, double factor) {
  const auto scale = [factor](auto& value) {
    using Count = std::remove_reference_t<decltype(value)>;
    if (value > 0) value = static_cast<Count>(std::max(1L, std::lround(static_cast<double>(value) * factor)));
  };
  for (const auto& key : recipe_keys()) {
    if (!key.counted_in_steps) continue;
    auto place = key.value(recipe);
    if (auto* value = std::get_if<int*>(&place))
      scale(**value);
    else
      scale(*std::get<std::int64_t*>(place));
  }
  // The half-life of an average is counted in steps too: decay^(1/factor) forgets as much over the shorter
  // run.
  recipe.average.decay = std::pow(recipe.average.decay, 1 / factor);
}

/// The whole model, a part of its training: steps, seconds and all that is counted in steps.
void shorten(Recipe& recipe, double part) {
  shrink_steps(recipe, part);
  recipe.train.seconds *= part;
  recipe.budget.train_seconds *= part;
}

/// Rules for tensors that only the larger model has.
void drop_rules(const Recipe& before, Recipe& recipe) {
  if (recipe.quant.rules.empty()) return;
  const auto fits = [](const std::string& rule, const Recipe& r) {
    const auto pattern = quant::parse_override("quant.rules", rule).first;
    const auto layout = model::make_layout(r.model);
    return std::ranges::any_of(layout.parameters(),
                               [&](const auto& p) { return base::matches(pattern, p.name); });
  };
  std::erase_if(recipe.quant.rules,
                [&](const auto& rule) { return fits(rule, before) && !fits(rule, recipe); });
}

void shrink(Recipe& recipe, const Limits& limits) {
  const Recipe before = recipe;
  const int reference = before.train.reference_steps();
  shrink_model(recipe, limits);
  shrink_work(recipe, limits);
  shrink_adaptation(recipe.adapt, limits);
  for (auto& phase : recipe.adapt.phases) keep_frozen(phase.train, before.model.layers, recipe.model.layers);
  drop_rules(before, recipe);
  if (reference > limits.steps) shrink_steps(recipe, static_cast<double>(limits.steps) / reference);
  if (recipe.train.by_clock()) {  // a small run is for looking and testing: make it repeatable
    recipe.train.schedule = optim::ScheduleKind::steps;
    recipe.train.steps = std::min(reference, limits.steps);
  }
}

/// Nothing for what is no number between 0 and 1.
std::optional<double> part_of(const std::string& scale) {
  double part = 0;
  const auto* end = scale.data() + scale.size();
  const auto parsed = std::from_chars(scale.data(), end, part);
  if (parsed.ec != std::errc() || parsed.ptr != end || !(part > 0 && part < 1)) return {};
  return part;
}

}  // namespace

void apply_scale(LoadedRecipe& loaded, const std::string& scale) {
  const std::vector<std::string> scales = {"tiny", "small", "full"};
  const auto part = part_of(scale);
  if (!part && std::ranges::find(scales, scale) == scales.end())
    base::fail_input(
        "--scale {}: must be tiny, small, full, or the part of the training to run, as 0.2 for a fifth{}",
        scale, base::did_you_mean(scale, scales));
  loaded.scale = scale;
  if (scale == "full") return;

  const Recipe before = loaded.recipe;
  auto& recipe = loaded.recipe;
  if (part)
    shorten(recipe, *part);
  else
    shrink(recipe, scale == "tiny" ? kTiny : kSmall);
  for (const auto& name : changed_keys(before, recipe))
    loaded.comments[name] = fmt::format("{} before --scale {}", toml_value(*find_key(name), before), scale);
}

}  // namespace fairway::pipeline
