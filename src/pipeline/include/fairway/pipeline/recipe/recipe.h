#pragma once
// A recipe: everything that decides a run's bits, as plain data. What does not (threads, output folder,
// device) is an option of the command instead, so that two runs of one recipe write the same artifact.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/adapt/protocol.h"
#include "fairway/artifact/artifact.h"
#include "fairway/data/documents.h"
#include "fairway/data/loader.h"
#include "fairway/model/config.h"
#include "fairway/optim/schedule.h"
#include "fairway/optim/training.h"
#include "fairway/quant/policy.h"
#include "fairway/score/window_plan.h"
#include "fairway/tensor/dtype.h"
#include "fairway/text/byte_table.h"

namespace fairway::pipeline {

/// Paths are absolute after loading, or `builtin:NAME` for a text inside the program (see `builtin_text`).
struct DataConfig {
  std::vector<std::string> train = {
      "builtin:demo.txt"};  ///< patterns of shards (.bin) or texts (.txt, .jsonl, each also .gz/.xz/.zst)
  std::vector<std::string> validation;  ///< the same; empty: every `holdout_every`-th training document
  std::string tokenizer;  ///< SentencePiece .model; "": trained on the training text, model.vocab_size pieces
  bool case_operators = false;  ///< of a tokenizer that is trained: words in lower case behind operators
  bool fuse_markers = false;    ///< of CaseOps: a space and the operator behind it are one token
  data::ReaderOptions reader = {.skip_empty = true};  ///< how texts are cut into documents
  int holdout_every = 20;  ///< every n-th document is for validation when `validation` is empty; 0: none
  std::int64_t train_bytes = 0;  ///< read at most this much training text; 0: all
  int slices = 8;                ///< a step reads slices * (L + 1) tokens (docs/spec/training.md section 1)
  data::Order order = data::Order::sequence;  ///< of the stream's windows
};

struct TrainConfig {
  std::int64_t batch_tokens = 786'432;  ///< targets per step; a multiple of slices * window
  int micro_batch = 0;                  ///< windows per micro-step; 0: chosen from shape and memory
  int steps = 7'100;                    ///< the last step; for "wall_clock" only a cap
  optim::ScheduleKind schedule = optim::ScheduleKind::steps;
  double seconds = 600;  ///< length of a "wall_clock" run
  int planned_steps =
      0;  ///< steps a "wall_clock" run is expected to make (what --scale relates to); 0: `steps`
  /// Milliseconds that each step of a "wall_clock" run counts as, whatever it takes; two: of steps before
  /// model.loop_layers run again, and since; empty: the real clock.
  std::vector<double> step_ms;
  double reserve_seconds = 0;      ///< of a "wall_clock" run that training leaves for what follows
  double warmdown_fraction = 0;    ///< linear decay over the last part of the training; 0: warmdown_steps
  double lr_floor = 0;             ///< the learning rate's scale never falls below it
  int warmdown_steps = 3'500;      ///< linear decay to 0 over the last steps; 0: none
  int log_every = 1;               ///< metrics line every so many steps
  int validate_every = 0;          ///< 0: only at the end
  int checkpoint_every = 0;        ///< steps; 0: by time, at the end and when interrupted
  double checkpoint_seconds = 60;  ///< about how often by time; 0: not
  int keep_checkpoints = 1;        ///< the newest so many stay; 0: none of a finished run
  /// Matrix products of forward and backward round their operands to it: f32 or bf16.
  tensor::DType products = tensor::DType::f32;
  bool packed = false;    ///< a micro-batch is one row of consecutive text, not rows of model.window
  double loop_start = 0;  ///< part of the training after which model.loop_layers run again; 0: from the start
  /// Packed rows are cut into pieces of these many tokens, one after the other; empty: model.window.
  std::vector<int> windows;
  std::vector<double> window_until;  ///< part of the training up to which each but the last lasts
  int window_warmup_steps = 32;      ///< the learning rate rises over so many steps after each change; 0: not
  double z_loss = 0;                 ///< weight of the squared log-normaliser in the training loss; 0: none
  std::string init;                  ///< safetensors file to start from; "": fresh weights
  bool by_clock() const { return schedule == optim::ScheduleKind::wall_clock; }
  /// What `--scale` divides by.
  int reference_steps() const { return by_clock() && planned_steps > 0 ? planned_steps : steps; }
};

/// Which weights are exported: the last, an exponential average or a mean of snapshots (docs/spec/training.md
/// sections 9, 10).
enum class Average { none, ema, swa };
constexpr auto names_of(Average) { return base::names<Average>("none", "ema", "swa"); }

struct AverageConfig {
  Average kind = Average::ema;
  double decay = 0.997;  ///< EMA: e <- decay e + (1 - decay) theta after every step ...
  int start = 0;         ///< ... after this one, whose weights it starts from; 0: the initial weights
  tensor::DType dtype = tensor::DType::f32;  ///< EMA: storage of the average: f32 or bf16
  int swa_every = 50;                        ///< SWA: add the weights every so many completed steps ...
  double swa_below = 0.2;                    ///< ... while the learning-rate scale is below this
  int swa_min = 2;  ///< ... and export the mean of at least so many; of fewer: the last weights
};

/// Late quantisation-aware training (docs/spec/training.md section 11): from a point on, forward and backward
/// see matrices rounded to a grid of so many bits per row, straight through.
struct QatConfig {
  int attention = 0;            ///< bits of the attention's matrices; 0: not
  int mlp = 0;                  ///< bits of the MLP's
  int other = 0;                ///< bits of the side embeddings' projections
  double below = 0;             ///< on once the learning-rate scale is below this; 0: not by scale
  double last_fraction = 0.04;  ///< on for the last part of the run; 0: not by part
  bool inert = false;           ///< as published: recipe/published.h
  bool any() const { return attention > 0 || mlp > 0 || other > 0; }
  bool acts() const { return any() && !inert; }
};

/// docs/spec/quantization.md sections 1-5.
struct QuantConfig {
  quant::QuantPolicy policy = quant::policy_with("int6_search");  ///< without `rules` and guided bits
  std::vector<std::string> rules;  ///< "PATTERN=RULE" by tensor name, before all else; first match wins
  artifact::Coder coder = artifact::Coder::zstd;
  int level = 22;                ///< beyond the coder's highest: the highest
  int shuffle = 1;               ///< stride of a byte shuffle of the weights before the coder; 1: none
  bool groups = false;           ///< integers in streams by group, each in its own arrangement
  double guided_high = 0;        ///< gradient-guided bits: part of the matrices with one bit more
  double guided_low = 0;         ///< and with one bit less
  int calibration_batches = 16;  ///< GPTQ: batches of training text behind each Hessian
  std::int64_t calibration_tokens = 98'304;  ///< tokens of each, in whole windows
};

/// docs/spec/evaluation.md sections 2, 3.
struct ScoreConfig {
  bool plain = true;
  int window = 0;                           ///< tokens; 0: model.window
  int stride = 64;                          ///< sliding windows; 0: none
  score::Tail tail = score::Tail::clean;    ///< recipe/published.h
  std::optional<text::ByteRule> rule = {};  ///< none: by the tokenizer
  std::int64_t tokens = 0;                  ///< score only the first so many targets; 0: all
  double ppm_weight = 0;  ///< part of a count model in sliding scores (score/ppm.h); 0: none
};

struct GenerateConfig {
  int tokens = 128;          ///< length of the sample; 0: no sample
  double temperature = 0.8;  ///< 0: the most likely token
  int top_k = 40;            ///< 0: all
  std::string prompt;
};

/// What the run is measured against. Without `enforce` going over is said; with it training ends in time,
/// scoring is shortened, and an artifact over the limit is a failure.
struct BudgetConfig {
  double train_seconds = 0;                  ///< 0: no limit
  double eval_seconds = 0;                   ///< 0: no limit
  std::int64_t artifact_bytes = 16'000'000;  ///< 0: no limit
  bool enforce = false;
};

/// Test-time training (docs/spec/ttt.md, docs/legality.md): a protocol with two phases, of which one without
/// epochs is none. Its seed is the recipe's.
struct AdaptConfig : adapt::Protocol {
  AdaptConfig();
};

struct Recipe {
  std::string name;         ///< from the file's name when not given
  std::string description;  ///< one line
  std::int64_t seed = 1337;
  model::ModelConfig model;
  DataConfig data;
  optim::TrainingConfig optim;
  TrainConfig train;
  AverageConfig average;
  QatConfig qat;
  QuantConfig quant;
  ScoreConfig score;
  AdaptConfig adapt;
  GenerateConfig generate;
  BudgetConfig budget;
  bool operator==(const Recipe& other) const;  ///< all keys are the same
};

/// Each slice of a step is one rank's, whose gradient is clipped on its own (optim.clip).
bool clips_by_rank(const Recipe& recipe);

/// The model as it is scored and adapted: in windows of score.window where that is set. Rotary angles follow
/// them as they would in training (model.rope_rescale_length).
model::ModelConfig evaluated(const model::ModelConfig& config, const ScoreConfig& options);
inline model::ModelConfig evaluated(const Recipe& recipe) { return evaluated(recipe.model, recipe.score); }
/// The windows of a step, or of a slice where micro-batches must not cross its border: a packed row is
/// consecutive text, and a rank's gradient is its own.
std::int64_t windows_to_divide(const Recipe& recipe);

/// The recipe's protocol; with adapt.when = "never" one that scores and trains nothing.
adapt::Protocol protocol(const Recipe& recipe);

/// Checks the recipe as a whole (every key's range and what keys mean together, model::validate too). Throws
/// an input error whose message begins with the key: "train.batch_tokens = 1000: ...".
void validate(const Recipe& recipe);

/// What the command line adds to a recipe.
struct RecipeOptions {
  std::vector<std::string> set = {};  ///< "train.steps=100", applied in order after the file
  std::string scale =
      "full";  ///< "tiny" | "small" | "full" | a part ("0.2"); applied before `set`, so what is set stands
  std::optional<std::int64_t> seed = {};  ///< --seed: the last word
};

struct LoadedRecipe {
  Recipe recipe;
  std::string source;  ///< path of the file or "builtin:NAME"
  std::map<std::string, std::string>
      comments;  ///< key -> why it differs from the file ("7100 before --scale tiny")
  std::string scale = "full";
};

/// Reads recipe text. `base = "NAME"` stands for another recipe, in the words of load_recipe with paths
/// relative to this one's folder: the keys here are laid over it; its name and description are not taken.
/// `label` stands for the file in errors ("FILE:LINE:COLUMN: KEY: what is wrong"), relative paths are
/// relative to `folder` and stay as they are when it is empty. Missing keys have their defaults; the result
/// is validated.
LoadedRecipe parse_recipe(std::string_view text, const std::string& label,
                          const std::filesystem::path& folder, const RecipeOptions& options = {});

/// A file (anything with a '/' or ending in .toml) or the name of a built-in recipe ("demo").
LoadedRecipe load_recipe(const std::string& name_or_path, const RecipeOptions& options = {});

/// Every key with its value, in the schema's order, ready to be read again: parse_recipe(to_toml(r)) == r.
/// `comments` go behind their keys.
std::string to_toml(const Recipe& recipe, const std::map<std::string, std::string>& comments = {});
std::string to_toml(const LoadedRecipe& loaded);
/// The same without folders in paths, so that it says nothing of the machine: what an artifact echoes.
std::string to_portable_toml(const Recipe& recipe);

/// Names of the keys in which two recipes differ, in the schema's order ("train.steps", ...).
std::vector<std::string> changed_keys(const Recipe& a, const Recipe& b);

/// The recipes and texts inside the program.
struct Builtin {
  std::string_view name;  ///< "demo" (recipe) or "demo.txt" (text)
  std::string_view text;
};
const std::vector<Builtin>& builtin_recipes();
/// The text behind "builtin:NAME", or nothing when `path` is not of that form. Unknown NAME: input error.
std::optional<std::string_view> builtin_text(std::string_view path);

}  // namespace fairway::pipeline
