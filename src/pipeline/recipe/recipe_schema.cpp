#include "fairway/pipeline/recipe/recipe_schema.h"

#include <utility>

#include "fairway/artifact/artifact.h"
#include "fairway/quant/policy.h"

#include "recipe/published.h"

namespace fairway::pipeline {
namespace {

void add_model(std::vector<RecipeKey>& keys) {
  using M = model::ModelConfig;
  constexpr auto m = &Recipe::model;
  auto more = {
      number<m, &M::vocab_size>("model.vocab_size", {2, 65536}, "pieces of the tokenizer"),
      number<m, &M::layers>("model.layers", {1, 256}, "transformer blocks"),
      number<m, &M::width>("model.width", {8, 65536}, "width of the residual stream"),
      number<m, &M::heads>("model.heads", {1, 1024}, "query heads; must divide the width"),
      number<m, &M::kv_heads>("model.kv_heads", {1, 1024}, "key/value heads; must divide the query heads"),
      number<m, &M::mlp_mult>("model.mlp_mult", {0.0625, 64},
                              "hidden width of the MLP over the width; rounded down"),
      choice<m, &M::activation>("model.activation", "MLP nonlinearity"),
      number<m, &M::leaky_slope>("model.leaky_slope", {0, 1}, "slope below zero of leaky_square"),
      number<m, &M::window>("model.window", {2, 1048576},
                            "length of a training and scoring window in tokens"),
      number<m, &M::rope_dims>("model.rope_dims", {2, 1024},
                               "rotated dimensions of each head (even, at most the head size)"),
      number<m, &M::rope_base>("model.rope_base", {1, 1e9}, "base of the rotary frequencies"),
      number<m, &M::rope_rescale_length>("model.rope_rescale_length", {0, 1048576},
                                         "longer windows rescale the rotary base; 0: never"),
      flag<m, &M::ln_scale>("model.ln_scale", "scale each block's norm by 1/sqrt(layer + 1)"),
      number<m, &M::norm_eps>("model.norm_eps", {0, 1}, "epsilon of every RMS norm"),
      flag<m, &M::unet_skips>("model.unet_skips",
                              "skip connections from the first half of the layers to the second"),
      flag<m, &M::smear>("model.smear", "mix the previous position into the input (SmearGate)"),
      number<m, &M::bigram_rows>("model.bigram_rows", {0, 16777216},
                                 "rows of the hashed bigram embedding; 0: none"),
      number<m, &M::bigram_dim>("model.bigram_dim", {1, 65536},
                                "width of a bigram row; no projection at the model's width"),
      number<m, &M::ve_dim>("model.ve_dim", {0, 65536},
                            "width of the value embedding; 0: none; no projection at the values' width"),
      number<m, &M::ve_layers>("model.ve_layers", {0, 255},
                               "layers that take the value embedding, counted from 0"),
      number<m, &M::xsa_layers>("model.xsa_layers", {0, 255},
                                "layers with exclusive self attention, counted from 0"),
      number<m, &M::softcap>("model.softcap", {0.001, 1e6}, "logits are softcap * tanh(z / softcap)"),
      number<m, &M::memory_tokens>("model.memory_tokens", {0, 1024},
                                   "learned vectors in the place of a window's first tokens; 0: none"),
      number<m, &M::smear_channels>(
          "model.smear_channels", {0, 65536},
          "channels of an embedding that open its gate for the token before; 0: none"),
      number<m, &M::smear_closed>("model.smear_closed", {0, 65535},
                                  "tokens that let nothing through this gate to the next (fused markers)"),
      number<m, &M::bos_id>("model.bos_id", {-1, 65535},
                            "token that begins a document and shuts this gate; -1: none"),
      flag<m, &M::skip_gates>("model.skip_gates", "skip connections are mixed in behind a gate, not added"),
      number<m, &M::loop_layers>("model.loop_layers", {0, 255},
                                 "neighbouring layers that run model.loop_runs times, as a segment"),
      number<m, &M::loop_runs>("model.loop_runs", {1, 16}, "how often they run"),
      number<m, &M::parallel_layers>("model.parallel_layers", {0, 255},
                                     "layers whose attention and MLP stand side by side"),
      choice<m, &M::parallel>("model.parallel", "what these add to: one stream, or two lanes"),
      choice<m, &M::attn_gate>("model.attn_gate",
                               "gate of each head's output: sigmoid, or twice that (which starts open)"),
      number<m, &M::attn_gate_channels>("model.attn_gate_channels", {1, 65536},
                                        "channels of the block's input that it reads"),
      number<m, &M::attn_gate_scale>("model.attn_gate_scale", {0, 100}, "factor before its sigmoid"),
      flag<m, &M::documents>("model.documents", "attention does not look across a document's beginning"),
      number<m, &M::embed_init_std>("model.embed_init_std", {0, 10},
                                    "initial standard deviation of the embedding"),
      number<m, &M::ve_init_std>("model.ve_init_std", {0, 10},
                                 "initial standard deviation of the value embedding"),
      number<m, &M::q_gain_init>("model.q_gain_init", {0, 100}, "initial gain of each query head"),
      choice<m, &M::matrix_init>("model.matrix_init", "initial matrices"),
  };
  keys.insert(keys.end(), more);
}

void add_data(std::vector<RecipeKey>& keys) {
  using D = DataConfig;
  using R = data::ReaderOptions;
  constexpr auto d = &Recipe::data;
  auto more = {
      path<d, &D::train>("data.train",
                         "patterns of shards (.bin) or texts (.txt, .jsonl, each also .gz, .xz, .zst); "
                         "builtin:demo.txt is inside the program"),
      path<d, &D::validation>(
          "data.validation", "the same for validation; empty: every data.holdout_every-th training document"),
      path<d, &D::tokenizer>(
          "data.tokenizer",
          "SentencePiece .model file; empty: one of model.vocab_size pieces is trained on the training text"),
      flag<d, &D::case_operators>("data.case_operators",
                                  "a tokenizer trained on the spot writes words in lower case behind case "
                                  "operators (CaseOps)"),
      flag<d, &D::fuse_markers>("data.fuse_markers",
                                "CaseOps: a space and the operator behind it are one token, of a published "
                                "model (pieces <0x00> to <0x02>) and of one trained on the spot (two more)"),
      choice<d, &D::reader, &R::split_on>("data.split_on", "what ends a document in a .txt"),
      text<d, &D::reader, &R::field>("data.field", "the text's field in a .jsonl"),
      flag<d, &D::reader, &R::skip_bad_lines>(
          "data.skip_bad_lines",
          "lines that are no document (.jsonl, or split_on line) are counted and left "
          "out instead of being an error"),
      number<d, &D::holdout_every>(
          "data.holdout_every", {0, 1e9},
          "every n-th document is for validation when data.validation is empty; 0: none"),
      number<d, &D::reader, &R::min_document_bytes>(
          "data.min_document_bytes", {0, 1e9},
          "blank-line: paragraphs are joined until a document has this size"),
      number<d, &D::train_bytes>("data.train_bytes", {0, kMaxTokens},
                                 "read at most so many bytes of training text; 0: all"),
      number<d, &D::slices>("data.slices", {1, 1024},
                            "a step reads slices x (L + 1) consecutive tokens of the stream"),
      choice<d, &D::order>("data.order", "windows of the stream as they stand, or each once in random order"),
  };
  keys.insert(keys.end(), more);
}

void add_optim(std::vector<RecipeKey>& keys) {
  using O = optim::TrainingConfig;
  using M = optim::MomentumWarmup;
  using W = optim::DecayTaper;
  constexpr auto o = &Recipe::optim;
  auto more = {
      number<o, &O::matrix_lr>("optim.matrix_lr", {0, 10}, "learning rate of the matrices (Muon)"),
      number<o, &O::embedding_lr>("optim.table_lr", {0, 10}, "learning rate of the embedding tables (AdamW)"),
      number<o, &O::scalar_lr>("optim.scalar_lr", {0, 10}, "learning rate of gains, mixes and gates (AdamW)"),
      number<o, &O::muon_momentum, &M::start>("optim.muon_momentum_start", {0, 0.99999},
                                              "Muon's momentum at the first step"),
      number<o, &O::muon_momentum, &M::end>("optim.muon_momentum_end", {0, 0.99999},
                                            "Muon's momentum after its warm-up"),
      number<o, &O::muon_momentum, &M::steps>("optim.muon_momentum_steps", {0, 1e9},
                                              "length of the momentum warm-up", Counted::yes),
      number<o, &O::ns_steps>("optim.ns_steps", {1, 100}, "Newton-Schulz iterations"),
      choice<o, &O::ns_dtype>("optim.ns_precision", "products of the Newton-Schulz iteration"),
      choice<o, &O::ns_coefficients>("optim.ns_coefficients",
                                     "the same quintic in every iteration, or Polar Express"),
      flag<o, &O::muon_row_norm>("optim.muon_row_norm",
                                 "rows of Muon's direction get length 1 before the iteration"),
      choice<o, &O::muon_momentum_dtype>("optim.muon_momentum_dtype", "rounding of Muon's momentum"),
      number<o, &O::muon_weight_decay>("optim.muon_weight_decay", {0, 10},
                                       "decoupled weight decay of the matrices"),
      number<o, &O::muon_decay_taper, &W::start>(
          "optim.muon_weight_decay_taper_start", {0, 1},
          "part of the training from which that of the matrices falls, linear to the end; 1: never"),
      number<o, &O::muon_decay_taper, &W::end>("optim.muon_weight_decay_end", {0, 1},
                                               "what it is multiplied by at the end, where it falls"),
      number<o, &O::adam_weight_decay>("optim.adam_weight_decay", {0, 10},
                                       "decoupled weight decay of everything else"),
      number<o, &O::scalar_weight_decay>("optim.scalar_weight_decay", {-1, 10},
                                         "that of gains, mixes and gates; -1: adam_weight_decay"),
      number<o, &O::beta1>("optim.beta1", {0, 0.99999}, "AdamW"),
      number<o, &O::beta2>("optim.beta2", {0, 0.999999}, "AdamW"),
      number<o, &O::eps>("optim.eps", {1e-30, 1}, "AdamW"),
      number<o, &O::grad_clip>("optim.grad_clip", {0, 1e9},
                               "largest norm of the whole gradient; 0: no clipping"),
      choice<o, &O::clip>("optim.clip",
                          "what is clipped: the step's gradient, or each rank's before they are averaged; "
                          "each slice of a step is a rank's"),
      choice<o, &O::embeddings>("optim.tables",
                                "storage of the embedding tables and their moments (bf16 as published)"),
  };
  keys.insert(keys.end(), more);
}

void add_train(std::vector<RecipeKey>& keys) {
  using T = TrainConfig;
  constexpr auto t = &Recipe::train;
  auto more = {
      number<t, &T::batch_tokens>("train.batch_tokens", {1, 1e12},
                                  "targets per step; a multiple of data.slices x model.window"),
      number<t, &T::micro_batch>("train.micro_batch", {0, 1048576}, "windows per micro-step; 0: chosen"),
      number<t, &T::steps>("train.steps", {0, 1e9}, "steps of the run; with schedule wall_clock only a cap",
                           Counted::yes),
      choice<t, &T::schedule>("train.schedule",
                              "what decides the end and the warm-down; steps is reproducible to the bit"),
      number<t, &T::seconds>("train.seconds", {0.1, 1e9}, "length of a wall_clock run"),
      number<t, &T::planned_steps>(
          "train.planned_steps", {0, 1e9},
          "steps a wall_clock run is expected to make, what --scale relates to; 0: train.steps",
          Counted::yes),
      number<t, &T::step_ms>(
          "train.step_ms", {0.001, 1e9},
          "milliseconds that a step of a wall_clock run counts as, the second once model.loop_layers run "
          "again; empty: what it takes"),
      number<t, &T::reserve_seconds>("train.reserve_seconds", {0, 1e9},
                                     "part of a wall_clock run that training leaves for what follows"),
      number<t, &T::warmdown_fraction>(
          "train.warmdown_fraction", {0, 1},
          "linear decay over the last part of the training, by time or steps; 0: over warmdown_steps"),
      number<t, &T::lr_floor>("train.lr_floor", {0, 1}, "the learning rate's scale never falls below it"),
      number<t, &T::warmdown_steps>("train.warmdown_steps", {0, 1e9},
                                    "the learning rate falls to 0 over the last so many steps; 0: never",
                                    Counted::yes),
      number<t, &T::log_every>("train.log_every", {1, 1e9}, "a metrics line every so many steps",
                               Counted::yes),
      number<t, &T::validate_every>("train.validate_every", {0, 1e9},
                                    "plain validation every so many steps; 0: only at the end", Counted::yes),
      number<t, &T::checkpoint_every>(
          "train.checkpoint_every", {0, 1e9},
          "a checkpoint every so many steps; 0: by time, at the end and when interrupted", Counted::yes),
      number<t, &T::checkpoint_seconds>(
          "train.checkpoint_seconds", {0, 1e9},
          "without checkpoint_every: one about every so many seconds, for at most 1 % of the time; 0: none"),
      number<t, &T::keep_checkpoints>(
          "train.keep_checkpoints", {0, 1000},
          "checkpoints that stay: checkpoint.fwck is the newest, the others are named by their step; 0: one, "
          "and none once `fairway run` is finished"),
      choice<t, &T::products>("train.products", "matrix products of forward and backward"),
      flag<t, &T::packed>("train.packed",
                          "a micro-batch is one row of consecutive text; needs model.documents, whose pieces "
                          "model.window limits"),
      number<t, &T::loop_start>(
          "train.loop_start", {0, 1},
          "part of the training after which model.loop_layers run again; 0: from the start"),
      number<t, &T::windows>("train.windows", {2, 1048576},
                             "packed rows are cut into pieces of so many tokens, one number after the other, "
                             "at most model.window; empty: model.window"),
      number<t, &T::window_until>("train.window_until", {0, 1},
                                  "part of the training up to which each of them but the last lasts"),
      number<t, &T::window_warmup_steps>(
          "train.window_warmup_steps", {0, 1e9},
          "after each change the learning rate rises linearly over so many steps; 0: it does not",
          Counted::yes),
      number<t, &T::z_loss>("train.z_loss", {0, 1},
                            "adds this times the mean squared log-normaliser to the training loss"),
      path<t, &T::init>("train.init", "safetensors file to start from; empty: fresh weights"),
  };
  keys.insert(keys.end(), more);
}

auto rules() {
  std::vector<base::Named<const quant::Rule*>> rules;
  for (const auto& name : quant::rule_names()) {
    const auto& rule = quant::find_rule("quant", name);
    rules.push_back({&rule, rule.name});
  }
  return rules;
}

auto mlp_rules() {
  auto all = rules();
  all.insert(all.begin(), {nullptr, "matrix"});
  return all;
}

/// Nothing calibrates what a gate reads.
auto gate_rules() {
  auto all = rules();
  std::erase_if(all, [](const auto& named) { return !named.value->quantize; });
  all.insert(all.begin(), {nullptr, "table"});
  return all;
}

auto coders() {
  std::vector<base::Named<artifact::Coder>> coders;
  for (const auto coder : artifact::all_coders()) coders.push_back({coder, artifact::coder_name(coder)});
  coders.push_back({artifact::Coder::smallest, artifact::coder_name(artifact::Coder::smallest)});
  return coders;
}

auto byte_rules() {
  std::vector<base::Named<std::optional<text::ByteRule>>> rules = {{std::nullopt, "auto"}};
  for (const auto& [rule, name] : names_of(text::ByteRule{})) rules.push_back({rule, name});
  return rules;
}

void add_after_training(std::vector<RecipeKey>& keys) {
  constexpr auto a = &Recipe::average;
  constexpr auto f = &Recipe::qat;
  constexpr auto q = &Recipe::quant;
  constexpr auto p = &QuantConfig::policy;
  using Policy = quant::QuantPolicy;
  constexpr auto s = &Recipe::score;
  constexpr auto g = &Recipe::generate;
  constexpr auto b = &Recipe::budget;
  auto more = {
      choice<a, &AverageConfig::kind>(
          "average.kind", "which weights are exported: the last, an exponential or a stochastic average"),
      number<a, &AverageConfig::decay>(
          "average.decay", {0, 0.9999999},
          "EMA: kept part of the average per step (--scale keeps its half-life in proportion)"),
      number<a, &AverageConfig::start>("average.start", {0, 1e9},
                                       "EMA: starts from the weights after this step; 0: the initial ones",
                                       Counted::yes),
      choice<a, &AverageConfig::dtype>("average.dtype", "EMA: storage of the average"),
      number<a, &AverageConfig::swa_every>("average.swa_every", {1, 1e9},
                                           "SWA: add the weights every so many steps", Counted::yes),
      number<a, &AverageConfig::swa_below>("average.swa_below", {0, 1},
                                           "SWA: only while the learning-rate scale is below this"),
      number<a, &AverageConfig::swa_min>(
          "average.swa_min", {1, 1e9},
          "SWA: of fewer snapshots none is used and the last weights are exported"),
      number<f, &QatConfig::attention>(
          "qat.attention", {0, 8}, "late QAT: bits of the attention's matrices (2 to 8); 0: not quantised"),
      number<f, &QatConfig::mlp>("qat.mlp", {0, 8}, "late QAT: bits of the MLP's matrices; 0: not quantised"),
      number<f, &QatConfig::other>("qat.other", {0, 8},
                                   "late QAT: bits of the side embeddings' projections; 0: not quantised"),
      number<f, &QatConfig::below>(
          "qat.below", {0, 1}, "late QAT begins once the learning-rate scale is below this; 0: not by scale"),
      number<f, &QatConfig::last_fraction>("qat.last_fraction", {0, 1},
                                           "late QAT begins for this last part of the run; 0: not by part"),
      published::inert_qat(),
      choice_of<&rules, q, p, &Policy::attention>(
          "quant.matrix",
          "matrices: bits, and the clip: the row's maximum, searched for the matrix, or for each row"),
      choice_of<&mlp_rules, q, p, &Policy::mlp>("quant.mlp", "the MLP's matrices; matrix: as quant.matrix"),
      choice_of<&rules, q, p, &Policy::table>("quant.table", "embedding tables"),
      choice_of<&gate_rules, q, p, &Policy::gate>("quant.gates",
                                                  "gates of heads with 32 to 8192 elements; table: as other "
                                                  "tensors of their size"),
      text<q, &QuantConfig::rules>("quant.rules",
                                   "PATTERN=RULE by tensor name (* any characters), before all else, first "
                                   "match wins: \"blocks.0.*=int8\""),
      number<q, p, &Policy::passthrough_limit>("quant.passthrough_limit", {0, 1e12},
                                               "tensors of at most so many elements stay fp16"),
      choice_of<&coders, q, &QuantConfig::coder>("quant.coder",
                                                 "entropy coder of the artifact; smallest: for each section "
                                                 "whichever makes it smallest"),
      number<q, &QuantConfig::level>(
          "quant.level", {1, 22},
          "level of the coder; beyond its highest (zstd 22, brotli 11, lzma 9): the highest"),
      number<q, &QuantConfig::shuffle>("quant.shuffle", {1, 15},
                                       "stride of a byte shuffle of the weights before the coder; 1: none"),
      flag<q, &QuantConfig::groups>(
          "quant.groups",
          "integers of each group of matrices in a stream of its own, rows sorted by "
          "similarity and transposed where that is smaller"),
      number<q, p, &Policy::prune, &quant::Pruning::share>(
          "quant.prune", {0, 0.99}, "part of each large tensor's smallest weights set to 0 in the export"),
      number<q, p, &Policy::prune, &quant::Pruning::below>(
          "quant.prune_below", {0, 1e9}, "weights of large tensors that are smaller are set to 0 too"),
      choice<q, p, &Policy::prune, &quant::Pruning::when>(
          "quant.prune_when",
          "prune before quantising, or the integers once scales and clips were chosen from all weights"),
      number<q, p, &Policy::attention_clip>("quant.clip_attention", {0.1, 1000},
                                            "int*_gptq: a row's scale is this times its standard deviation "
                                            "over the largest integer; attention"),
      number<q, p, &Policy::mlp_clip>("quant.clip_mlp", {0.1, 1000}, "the same for the MLP"),
      number<q, p, &Policy::table_clip>("quant.clip_table", {0.1, 1000}, "the same for embedding tables"),
      number<q, p, &Policy::attention_damping>(
          "quant.damping_attention", {1e-6, 10},
          "int*_gptq: part of the mean of the Hessian's diagonal that is added to it; attention"),
      number<q, p, &Policy::mlp_damping>("quant.damping_mlp", {1e-6, 10}, "the same for the MLP"),
      number<q, p, &Policy::table_damping>("quant.damping_table", {1e-6, 10},
                                           "the same for embedding tables"),
      choice<q, p, &Policy::rotation>("quant.rotate",
                                      "int*_gptq: basis in which matrices (not tables) are quantised and "
                                      "stored; hadamard needs widths that are powers of two"),
      number<q, p, &Policy::awq, &quant::AwqOptions::groups>(
          "quant.awq_groups", {0, 100000},
          "int*_gptq: so many groups of columns, those with the largest products, stand on eight bits"),
      number<q, p, &Policy::awq, &quant::AwqOptions::columns>("quant.awq_columns", {1, 65536},
                                                              "columns of a group"),
      number<q, p, &Policy::lqer, &quant::LqerOptions::tensors>(
          "quant.lqer_tensors", {0, 65536},
          "int*_gptq: so many tensors, those with the largest errors, get a part of them back as a product "
          "of low rank"),
      number<q, p, &Policy::lqer, &quant::LqerOptions::rank>("quant.lqer_rank", {1, 65536},
                                                             "rank of this product"),
      number<q, p, &Policy::lqer, &quant::LqerOptions::group>(
          "quant.lqer_group", {1, 1e9}, "neighbours in its second factor that share a scale"),
      number<q, &QuantConfig::calibration_batches>("quant.calibration_batches", {1, 100000},
                                                   "int*_gptq: batches of training text behind each Hessian"),
      number<q, &QuantConfig::calibration_tokens>("quant.calibration_tokens", {1, 1e9},
                                                  "tokens of each, in whole windows"),
      number<q, &QuantConfig::guided_high>("quant.guided_high", {0, 1},
                                           "gradient-guided bits: part of the matrices, those with the "
                                           "largest mean squared gradient, with one bit more"),
      number<q, &QuantConfig::guided_low>("quant.guided_low", {0, 1},
                                          "part of the matrices, those with the smallest, with one bit less"),
      flag<s, &ScoreConfig::plain>("score.plain", "score windows side by side"),
      number<s, &ScoreConfig::window>(
          "score.window", {0, 1048576},
          "length of the windows that score and adapt, which may be longer than those of the training; 0: "
          "model.window"),
      number<s, &ScoreConfig::stride>("score.stride", {0, 1048576},
                                      "score sliding windows of this stride; 0: don't"),
      published::tail(),
      choice_of<&byte_rules, s, &ScoreConfig::rule>(
          "score.rule",
          "how bytes are counted; auto: exact for our tokenizers, surface for CaseOps models (of "
          "shards with byte counts beside them), challenge for others"),
      number<s, &ScoreConfig::tokens>("score.tokens", {0, kMaxTokens},
                                      "score only the first so many targets; 0: all"),
      number<s, &ScoreConfig::ppm_weight>("score.ppm_weight", {0, 0.5},
                                          "part of a count model of the text before (PPM-C, order 1) in the "
                                          "sliding scores, adapted ones too; 0: none"),
      number<g, &GenerateConfig::tokens>("generate.tokens", {0, 1048576}, "length of the sample; 0: none"),
      number<g, &GenerateConfig::temperature>("generate.temperature", {0, 100},
                                              "0: always the most likely token"),
      number<g, &GenerateConfig::top_k>("generate.top_k", {0, 65536},
                                        "draw from the k most likely tokens; 0: from all"),
      text<g, &GenerateConfig::prompt>("generate.prompt", "text the sample continues"),
      number<b, &BudgetConfig::train_seconds>("budget.train_seconds", {0, 1e9},
                                              "training time the run may use; 0: no limit"),
      number<b, &BudgetConfig::eval_seconds>("budget.eval_seconds", {0, 1e9},
                                             "time the artifact's scores may take; 0: no limit"),
      number<b, &BudgetConfig::artifact_bytes>("budget.artifact_bytes", {0, 1e12},
                                               "size of weights and code; 0: no limit"),
      flag<b, &BudgetConfig::enforce>(
          "budget.enforce",
          "true: training ends in time, scoring takes wider strides to fit, an artifact "
          "over the limit fails; false: going over is said"),
  };
  keys.insert(keys.end(), more);
}

std::vector<RecipeKey> make_keys() {
  std::vector<RecipeKey> keys = {
      text<&Recipe::name>("name", "name of the recipe; from the file's name when not given"),
      text<&Recipe::description>("description", "one line"),
      number<&Recipe::seed>("seed", {0, 9007199254740992.0},
                            "seed of the initial weights and the sample; the data order never depends on it"),
  };
  add_model(keys);
  add_data(keys);
  add_optim(keys);
  add_train(keys);
  add_after_training(keys);
  add_adapt_keys(keys);
  return keys;
}

}  // namespace

const std::vector<RecipeKey>& recipe_keys() {
  static const std::vector<RecipeKey> keys = make_keys();
  return keys;
}

}  // namespace fairway::pipeline
