#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "fairway/adapt/selection.h"
#include "fairway/base/error.h"
#include "fairway/base/pattern.h"
#include "fairway/base/text.h"
#include "fairway/model/family.h"
#include "fairway/quant/policy.h"
#include "recipe/quant_policy.h"
#include "recipe/recipe_parse.h"

namespace fairway::pipeline {
namespace {

using base::fail_input;

/// It names a folder.
void validate_name(const std::string& name) {
  constexpr std::size_t kLongest = 240;  // "-2" and more still fit behind it
  if (name.size() > kLongest)
    fail_input("name: {} bytes are too long for the name of a folder, at most {}", name.size(), kLongest);
}

void validate_data(const Recipe& recipe) {
  const auto& data = recipe.data;
  if (std::ranges::count(data.train, "-") + std::ranges::count(data.validation, "-") > 1)
    fail_input("data.train, data.validation: standard input (-) can be read once only");
  if (data.train.empty()) fail_input("data.train = []: name at least one text or shard");
  if (data.validation.empty() && data.holdout_every == 0)
    fail_input("data.holdout_every = 0: nothing to validate on; give data.validation or a number above 1");
  if (data.validation.empty() && data.holdout_every == 1)
    fail_input("data.holdout_every = 1: every document would be for validation, none for training");
  const auto shard =
      std::find_if(data.train.begin(), data.train.end(), [](const auto& p) { return p.ends_with(".bin"); });
  if (!data.tokenizer.empty()) return;
  if (data.fuse_markers && !data.case_operators)
    fail_input(
        "data.fuse_markers = true: a tokenizer trained on the spot needs data.case_operators = true too; or "
        "name a "
        "published CaseOps model as data.tokenizer");
  if (shard != data.train.end())
    fail_input("data.tokenizer = \"\": the shards '{}' need the tokenizer they were made with", *shard);
  constexpr int kSmallestTrained = 300;  // 256 byte pieces, the control pieces, and some letters
  if (recipe.model.vocab_size < kSmallestTrained)
    fail_input("model.vocab_size = {}: a tokenizer trained on the spot needs at least {}",
               recipe.model.vocab_size, kSmallestTrained);
}

void validate_batch(const Recipe& recipe) {
  const auto& train = recipe.train;
  const std::int64_t unit = std::int64_t{recipe.data.slices} * recipe.model.window;
  if (train.batch_tokens % unit != 0) {
    fail_input("train.batch_tokens = {}: must be a multiple of data.slices x model.window = {} x {} = {}",
               train.batch_tokens, recipe.data.slices, recipe.model.window, unit);
  }
  const auto windows = windows_to_divide(recipe);
  if (train.micro_batch > 0 && windows % train.micro_batch != 0)
    fail_input("train.micro_batch = {}: does not divide the {} windows of a {}", train.micro_batch, windows,
               clips_by_rank(recipe) ? "slice, which is a rank's with optim.clip = \"rank\""
               : train.packed        ? "slice"
                                     : "step");
  if (train.by_clock() && train.reserve_seconds >= train.seconds)
    fail_input("train.reserve_seconds = {}: nothing is left of train.seconds = {}", train.reserve_seconds,
               train.seconds);
  if (train.by_clock() && train.step_ms.size() > (recipe.model.executions() > recipe.model.layers ? 2 : 1))
    fail_input(
        "train.step_ms: {} numbers; give one, or two where layers run again (model.loop_layers, "
        "model.loop_runs)",
        train.step_ms.size());
  if (train.packed && !recipe.model.documents)
    fail_input("train.packed = true: needs model.documents = true, which says what attention sees of a row");
  if (train.packed && recipe.data.order != data::Order::sequence)
    fail_input("train.packed = true: rows are consecutive text; set data.order = \"sequence\"");
  if (train.packed && recipe.model.memory_tokens > 0)
    fail_input("train.packed = true: not with model.memory_tokens = {}", recipe.model.memory_tokens);
  if (train.loop_start > 0 && recipe.model.executions() == recipe.model.layers)
    fail_input("train.loop_start = {}: no layer runs again (model.loop_layers, model.loop_runs)",
               train.loop_start);
}

/// What acts on GPTQ's tensors only would silently do nothing without one.
void validate_gptq(const Recipe& recipe) {
  const auto& p = recipe.quant.policy;
  const auto is = [](const quant::Rule* rule) { return rule && !rule->quantize; };
  const bool any = is(p.attention) || is(p.mlp) || is(p.table) ||
                   std::ranges::any_of(recipe.quant.rules, [&](const auto& rule) {
                     return is(quant::parse_override("quant.rules", rule).second);
                   });
  const auto needs = [&](const char* key, std::string_view value) {
    if (!any)
      fail_input("{} = {}: no tensor is quantised by a rule int*_gptq (quant.matrix, ...)", key, value);
  };
  if (p.awq.groups > 0) needs("quant.awq_groups", fmt::format("{}", p.awq.groups));
  if (p.lqer.tensors > 0) needs("quant.lqer_tensors", fmt::format("{}", p.lqer.tensors));
  if (p.rotation != quant::Rotation::none) needs("quant.rotate", base::name_of(p.rotation));
}

/// Pieces of packed rows by stage of the training.
void validate_windows(const Recipe& recipe) {
  const auto& train = recipe.train;
  const auto& until = train.window_until;
  const std::size_t changes = train.windows.empty() ? 0 : train.windows.size() - 1;
  if (until.size() != changes)
    fail_input("train.window_until: {} numbers for {} of train.windows; give one for each but the last",
               until.size(), train.windows.size());
  if (std::ranges::adjacent_find(until, std::ranges::greater_equal()) != until.end())
    fail_input("train.window_until = [{}]: each number must be above the one before", fmt::join(until, ", "));
  if (train.windows.empty()) return;
  if (const int longest = std::ranges::max(train.windows); longest > recipe.model.window)
    fail_input("train.windows: {} is longer than model.window = {}, which is the longest", longest,
               recipe.model.window);
  if (!train.packed)
    fail_input("train.windows: are pieces of packed rows; set train.packed = true (with model.documents)");
}

void validate_quant(const Recipe& recipe) {
  for (const auto& rule : recipe.quant.rules) quant::parse_override("quant.rules", rule);
  validate_gptq(recipe);
  if (recipe.quant.guided_high + recipe.quant.guided_low > 1)
    fail_input("quant.guided_high = {}: with quant.guided_low = {} more than all matrices",
               recipe.quant.guided_high, recipe.quant.guided_low);
  if (recipe.quant.guided_high + recipe.quant.guided_low == 0) return;
  // The last step's scale is 1 / (steps of the warmdown).
  const auto& train = recipe.train;
  const bool by_part = train.warmdown_fraction > 0;
  if ((by_part ? train.warmdown_fraction * static_cast<double>(train.steps) : train.warmdown_steps) <= 2)
    fail_input(
        "quant.guided_high = {}, quant.guided_low = {}: need gradients of steps with a learning-rate scale "
        "below 0.5, and with train.warmdown_{} = {} there are none",
        recipe.quant.guided_high, recipe.quant.guided_low, by_part ? "fraction" : "steps",
        by_part ? train.warmdown_fraction : train.warmdown_steps);
}

/// A grid needs a sign and a digit.
void validate_qat(const Recipe& recipe) {
  for (const auto& [key, bits] : {std::pair("attention", recipe.qat.attention),
                                  std::pair("mlp", recipe.qat.mlp), std::pair("other", recipe.qat.other)})
    if (bits == 1) fail_input("qat.{} = 1: must be 0 (not quantised) or 2 to 8 bits", key);
}

void validate_score(const Recipe& recipe) {
  const int window = evaluated(recipe).window;
  if (window < 2 || window <= recipe.model.memory_tokens)
    fail_input("score.window = {}: too short; at least 2, and more than model.memory_tokens = {}", window,
               recipe.model.memory_tokens);
  if (recipe.score.stride > window) {
    fail_input("score.stride = {}: larger than {} = {}, tokens would go unscored", recipe.score.stride,
               recipe.score.window > 0 ? "score.window" : "model.window", window);
  }
  if (recipe.score.ppm_weight > 0 && recipe.score.stride == 0)
    fail_input("score.ppm_weight = {}: is part of sliding scores only; set score.stride",
               recipe.score.ppm_weight);
  const int memory = recipe.model.memory_tokens;
  if (memory > 0 && recipe.score.stride > window - memory)
    fail_input("score.stride = {}: with model.memory_tokens = {} a window scores its last {} tokens only",
               recipe.score.stride, memory, window - memory);
  if (memory > 0 && recipe.score.tail == score::Tail::published)
    fail_input("score.tail = \"published\": not with model.memory_tokens; choose clean");
  if (memory > 0 && recipe.generate.tokens > 0)
    fail_input("generate.tokens = {}: a model with model.memory_tokens does not generate; set 0",
               recipe.generate.tokens);
  if (!recipe.score.plain && recipe.score.stride == 0)
    fail_input("score.plain = false: with score.stride = 0 nothing is scored; switch one of them on");
}

void validate_adapt(const Recipe& recipe) {
  if (recipe.adapt.when == adapt::When::never) return;
  if (recipe.model.memory_tokens > 0)
    fail_input("adapt.when = \"{}\": a model with model.memory_tokens is not adapted; choose never",
               base::name_of(recipe.adapt.when));
  const auto p = protocol(recipe);
  adapt::validate(p);
  if (p.phases[0].epochs == 0)
    fail_input("adapt.epochs = 0: nothing would be trained; adapt.when = \"never\"");
  const auto layout = model::make_layout(recipe.model);
  for (const auto& phase : p.phases) adapt::select(phase, layout, recipe.model, p.tables);
}

}  // namespace

model::ModelConfig evaluated(const model::ModelConfig& config, const ScoreConfig& options) {
  auto model = config;
  if (options.window > 0) model.window = options.window;
  return model;
}

bool clips_by_rank(const Recipe& r) { return r.optim.clip == optim::Clip::rank && r.optim.grad_clip > 0; }

std::int64_t windows_to_divide(const Recipe& r) {
  const bool by_slice = r.train.packed || clips_by_rank(r);
  return r.train.batch_tokens / r.model.window / (by_slice ? r.data.slices : 1);
}

AdaptConfig::AdaptConfig() {
  when = adapt::When::never;
  phases[0].grad_clip = 1;
  phases.push_back(phases[0]);
  phases[1].epochs = 0;
}

adapt::Protocol protocol(const Recipe& recipe) {
  adapt::Protocol p = recipe.adapt;
  if (p.when == adapt::When::never) {
    p = {};
    p.when = adapt::When::never;
    p.phases[0].epochs = 0;
  } else if (p.phases[1].epochs == 0) {
    p.phases.pop_back();
  }
  p.seed = static_cast<std::uint64_t>(recipe.seed);
  return p;
}

void validate(const Recipe& recipe) {
  for (const auto& key : recipe_keys())
    if (auto error = range_error(key, recipe); !error.empty()) fail_input("{}", error);
  model::validate(recipe.model);
  validate_name(recipe.name);
  validate_data(recipe);
  validate_batch(recipe);
  validate_windows(recipe);
  validate_quant(recipe);
  validate_score(recipe);
  validate_adapt(recipe);
  validate_qat(recipe);
}

void validate_rules(const Recipe& recipe) {
  std::vector<std::string> patterns;
  for (const auto& rule : recipe.quant.rules)
    patterns.push_back(quant::parse_override("quant.rules", rule).first);
  const auto layout = model::make_layout(recipe.model);
  validate_policy(recipe.quant, layout);
  if (patterns.empty()) return;
  std::vector<int> tensors(patterns.size()), first_for(patterns.size());
  std::vector<std::string> names;
  for (const auto& p : layout.parameters()) {
    names.push_back(p.name);
    bool taken = false;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      if (!base::matches(patterns[i], p.name)) continue;
      ++tensors[i];
      if (!std::exchange(taken, true)) ++first_for[i];
    }
  }
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (tensors[i] == 0)
      fail_input("quant.rules: '{}' fits no tensor of this model{}; `fairway inspect --tensors` lists them",
                 patterns[i], base::did_you_mean(patterns[i], names));
    if (first_for[i] == 0)
      fail_input("quant.rules: '{}' is never used, as rules before it fit all its tensors; put it first",
                 patterns[i]);
  }
}

}  // namespace fairway::pipeline
