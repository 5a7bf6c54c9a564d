#pragma once
// One line for each key of a recipe: another value than the base's, and what then differs.

#include "support/folder.h"

#include <array>
#include <string>
#include <vector>

namespace fairway::pipeline::testing {

using fairway::testing::Folder;

struct Line {
  std::string key, value;
  std::vector<std::string> changes;    ///< what differs; "x.*": some of x
  std::vector<std::string> more = {};  ///< the base it is looked at on
};

inline const std::vector<std::string> kUpdate = {"step.weights", "step.average"};

inline std::vector<std::string> also(std::vector<std::string> some,
                                     const std::vector<std::string>& more = kUpdate) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}

/// Lines whose effect the stages show on their own.
inline std::vector<Line> lines(const Folder& folder) {
  const std::vector<std::string> step = {"step.loss", "step.weights", "step.average"};
  const auto shape = also({"model.layout", "model.init", "model.output", "step.start"}, step);
  const auto computed = also({"model.output"}, step);
  const std::vector<std::string> first = {"model.init", "step.start",
                                          "step.average"};  // an EMA begins with them
  const std::vector<std::string> words = also({"corpus.train", "corpus.validation", "corpus.batch"}, step);
  const std::vector<std::string> qat = {"qat.mlp=5"},
                                 swa = {"average.kind=swa", "average.swa_every=1", "average.swa_below=0.9"};
  const std::vector<std::string> token_smear = {"model.smear=false", "model.smear_channels=12"},
                                 tables = {"quant.table=int7_gptq", "quant.rules=[\"*.embed.weight=int8\"]"},
                                 loops = {"model.loop_layers=[1]", "model.loop_runs=2"},
                                 growing = {"model.documents=true", "train.packed=true",
                                            "train.windows=[16, 32]", "train.window_until=[0.25]",
                                            "train.window_warmup_steps=2"};
  std::string even = "[0";
  for (int id = 2; id < 1024; id += 2) even += fmt::format(", {}", id);
  even += "]";
  std::vector<Line> all = {
      {"description", "\"other\"", {"description"}},
      {"seed", "7", {"model.init", "adapt.seed", "step.start", "step.average"}},
      // The model.
      {"model.vocab_size", "1032", shape},
      {"model.layers", "3", shape},
      {"model.width", "48", shape},
      {"model.heads", "4", shape},
      {"model.kv_heads", "2", shape},
      {"model.mlp_mult", "3", shape},
      {"model.activation", "relu_square", computed},
      {"model.leaky_slope", "0.25", computed},
      {"model.window", "64", also({"model.output", "step.rows"}, step)},
      {"model.rope_dims", "4", computed},
      {"model.rope_base", "500", computed},
      {"model.rope_rescale_length", "8", computed},
      {"model.ln_scale", "false", computed},
      {"model.norm_eps", "0.01", computed},
      {"model.unet_skips", "false", shape},
      {"model.smear", "false", shape},
      {"model.bigram_rows", "128", shape},
      {"model.bigram_dim", "16", shape},
      {"model.ve_dim", "16", shape},
      {"model.ve_layers", "[0]", computed},
      {"model.xsa_layers", "[0]", computed},
      {"model.softcap", "5", computed},
      {"model.memory_tokens", "3", also({"model.layout", "model.init", "model.output", "step.start"}, step)},
      {"model.smear_channels", "12", shape, {"model.smear=false"}},
      {"model.smear_closed", even, computed, token_smear},
      {"model.bos_id", "37", computed, token_smear},
      {"model.skip_gates", "true", shape},
      {"model.loop_layers", "[0]", computed, loops},
      {"model.loop_runs", "3", shape, loops},
      {"model.parallel_layers", "[1]", computed},
      {"model.parallel", "lanes", shape, {"model.parallel_layers=[1]"}},
      {"model.attn_gate", "sigmoid", shape},
      {"model.attn_gate_channels", "6", shape, {"model.attn_gate=sigmoid"}},
      {"model.attn_gate_scale", "0.5", computed, {"model.attn_gate=sigmoid"}},
      {"model.documents", "true", {"model.output"}, {"model.bos_id=37"}},  // no text has this token
      {"model.embed_init_std", "0.1", first},
      {"model.ve_init_std", "0.2", first},
      {"model.q_gain_init", "3", first},
      {"model.matrix_init", "uniform", first},
      // Text.
      {"data.train", "[\"" + folder("v.txt") + "\"]", words},
      {"data.validation", "[\"" + folder("v.txt") + "\"]", words},
      {"data.tokenizer",
       FAIRWAY_DATA_DIR "/tokenizers/fineweb_4096_bpe.model",
       also({"corpus.tokenizer"}, words),
       {"model.vocab_size=4096"}},
      {"data.split_on", "blank-line", words},
      {"data.field", "body", words, {"data.train=[\"" + folder("b.jsonl") + "\"]"}},
      {"data.holdout_every", "7", words},
      {"data.min_document_bytes", "400", words, {"data.split_on=blank-line"}},
      {"data.train_bytes", "3000", {"corpus.train", "corpus.validation"}},
      {"data.slices", "4", also({"corpus.batch"}, step)},
      {"data.order", "windows", also({"corpus.batch"}, step)},
      // The update.
      {"optim.matrix_lr", "0.01", also({"optim.matrix_lr"})},
      {"optim.ns_coefficients", "polar_express", also({"optim.ns_coefficients"})},
      {"optim.muon_row_norm", "true", also({"optim.muon_row_norm"})},
      {"optim.muon_momentum_dtype", "bf16", also({"optim.muon_momentum_dtype"})},
      {"optim.scalar_weight_decay", "0.5", also({"optim.scalar_weight_decay"})},
      {"optim.table_lr", "0.01", also({"optim.table_lr"})},
      {"optim.scalar_lr", "0.01", also({"optim.scalar_lr"})},
      {"optim.muon_momentum_start", "0.5", also({"optim.momentum.start"})},
      {"optim.muon_momentum_end", "0.8", also({"optim.momentum.end"})},
      {"optim.muon_momentum_steps", "20", also({"optim.momentum.steps"})},
      {"optim.ns_steps", "3", also({"optim.ns_steps"})},
      {"optim.ns_precision", "bf16", also({"optim.ns_precision"})},
      {"optim.muon_weight_decay", "0.5", also({"optim.muon_weight_decay"})},
      {"optim.muon_weight_decay_taper_start",
       "0.25",
       also({"optim.decay_taper.start"}),
       {"optim.muon_weight_decay=1", "optim.muon_weight_decay_end=0.1"}},
      {"optim.muon_weight_decay_end",
       "0.1",
       also({"optim.decay_taper.end"}),
       {"optim.muon_weight_decay=1", "optim.muon_weight_decay_taper_start=0.25"}},
      {"optim.adam_weight_decay", "0.5", also({"optim.adam_weight_decay"})},
      {"optim.beta1", "0.5", also({"optim.beta1"})},
      {"optim.beta2", "0.5", also({"optim.beta2"})},
      {"optim.eps", "0.001", also({"optim.eps"})},
      {"optim.grad_clip", "0.01", also({"optim.grad_clip"})},
      {"optim.clip", "rank", also({"optim.clip", "step.rows"}), {"optim.grad_clip=0.01"}},
      {"optim.tables", "bf16", also({"optim.tables", "pack.read"})},
      // The loop.
      {"train.batch_tokens", "1024", also({"corpus.batch", "step.rows"}, step)},
      {"train.micro_batch", "2", also({"step.rows"})},
      {"train.steps", "10", also({"optim.schedule.steps", "optim.reference_steps", "loop.*"})},
      {"train.schedule", "wall_clock", also({"optim.schedule.kind", "loop.scales"})},
      {"train.seconds", "300", {"optim.schedule.limit_ms"}},
      {"train.step_ms", "[90000]", {"loop.*"}, {"train.schedule=wall_clock"}},
      {"train.reserve_seconds", "5", {"optim.schedule.limit_ms"}},
      {"train.warmdown_fraction", "1", also({"optim.schedule.fraction", "loop.scales"})},
      {"train.lr_floor", "0.9", also({"optim.schedule.floor", "loop.scales"})},
      {"train.planned_steps", "50", {"optim.reference_steps"}, {"train.schedule=wall_clock"}},
      {"train.warmdown_steps", "6", also({"optim.schedule.warmdown", "loop.scales"})},
      {"train.log_every", "3", {"loop.logged"}},
      {"train.validate_every", "3", {"loop.validated"}},
      {"train.checkpoint_every", "3", {"loop.files"}, {"train.keep_checkpoints=3"}},
      {"train.keep_checkpoints", "2", {"loop.files"}, {"train.checkpoint_every=3"}},
      {"train.products", "bf16", step},
      {"train.packed", "true", also({"step.rows"}, step), {"model.documents=true"}},
      {"train.loop_start", "0.5", {"loop.looped"}, loops},
      {"train.windows", "[16]", {"loop.windows"}, {"model.documents=true", "train.packed=true"}},
      {"train.window_until", "[0.5]", {"loop.windows", "loop.scales"}, growing},
      {"train.window_warmup_steps", "4", {"loop.scales"}, growing},
      {"train.z_loss", "0.1", step},
      {"train.init", folder("init.safetensors"), first},
      {"average.kind", "none", {"step.average", "loop.averages", "loop.average_count"}},
      {"average.decay", "0.5", {"step.average"}},
      {"average.start", "3", {"loop.averages", "loop.average_count"}},
      {"average.dtype", "bf16", {"step.average"}},
      {"average.swa_every", "2", {"loop.averages", "loop.average_count"}, swa},
      {"average.swa_below", "0.6", {"loop.averages", "loop.average_count"}, swa},
      {"average.swa_min", "5", {"loop.average_count"}, swa},
      {"qat.attention", "6", also({"loop.qat_levels"}, step), qat},
      {"qat.mlp", "3", also({"loop.qat_levels"}, step), qat},
      {"qat.other", "4", also({"loop.qat_levels"}, step), qat},
      {"qat.below", "0.6", {"loop.qat", "loop.qat_step"}, qat},
      {"qat.last_fraction", "0.5", {"loop.qat", "loop.qat_step"}, qat},
      {"qat.inert", "true", also({"loop.qat"}, step), {"qat.mlp=5", "qat.last_fraction=0.5"}},
      // The export.
      {"quant.matrix", "int5_rowmax", {"pack.*"}},
      {"quant.mlp", "int5_search", {"pack.*"}},
      {"quant.table", "fp16", {"pack.*"}},
      {"quant.rules", "[\"blocks.0.*=int8\"]", {"pack.*"}},
      {"quant.passthrough_limit", "1000", {"pack.*"}},
      {"quant.coder", "lzma", {"pack.bytes"}},
      {"quant.level", "19", {"pack.bytes"}},
      {"quant.shuffle", "2", {"pack.bytes"}},
      {"quant.groups", "true", {"pack.bytes"}},
      {"quant.prune", "0.3", {"pack.values", "pack.bytes", "pack.read"}},
      {"quant.prune_below", "0.05", {"pack.values", "pack.bytes", "pack.read"}},
      {"quant.prune_when",
       "after",
       {"pack.values", "pack.bytes", "pack.read"},
       {"quant.prune=0.3", "quant.matrix=int6_row_search"}},
      {"quant.guided_high",
       "0.3",
       {"pack.values", "pack.bytes", "pack.kinds", "pack.read", "loop.sensitivity"}},
      {"quant.guided_low",
       "0.3",
       {"pack.values", "pack.bytes", "pack.kinds", "pack.read", "loop.sensitivity"}},
      {"quant.clip_attention", "9", {"pack.values", "pack.bytes", "pack.read"}, {"quant.matrix=int6_gptq"}},
      {"quant.clip_mlp", "9", {"pack.values", "pack.bytes", "pack.read"}, {"quant.mlp=int6_gptq"}},
      {"quant.clip_table", "9", {"pack.values", "pack.bytes", "pack.read"}, tables},
      {"quant.damping_attention",
       "0.1",
       {"pack.values", "pack.bytes", "pack.read"},
       {"quant.matrix=int6_gptq"}},
      {"quant.damping_mlp", "0.1", {"pack.values", "pack.bytes", "pack.read"}, {"quant.mlp=int6_gptq"}},
      {"quant.damping_table", "0.1", {"pack.*"}, tables},
      {"quant.rotate", "hadamard", {"pack.*"}, {"quant.matrix=int6_gptq"}},
      {"quant.awq_groups", "2", {"pack.*"}, {"quant.matrix=int6_gptq", "quant.awq_columns=8"}},
      {"quant.awq_columns", "8", {"pack.*"}, {"quant.matrix=int6_gptq", "quant.awq_groups=2"}},
      {"quant.lqer_tensors", "2", {"pack.*"}, {"quant.matrix=int6_gptq"}},
      {"quant.lqer_rank", "2", {"pack.*"}, {"quant.matrix=int6_gptq", "quant.lqer_tensors=2"}},
      {"quant.lqer_group", "16", {"pack.*"}, {"quant.matrix=int6_gptq", "quant.lqer_tensors=2"}},
      // Scores.
      {"score.stride", "4", {"score.stride", "score.nll", "entered.stride", "entered.nll"}},
      {"score.window", "64", {"score.nll", "entered.nll"}},
      {"score.tail",
       "published",
       {"score.tail", "score.tokens", "score.bytes", "score.nll", "score.notes", "entered.tail",
        "entered.tokens", "entered.bytes", "entered.nll", "entered.notes"}},
      {"score.rule", "exact", {"score.rule", "entered.rule"}},
      {"score.tokens",
       "150",
       {"score.tokens", "score.bytes", "score.nll", "entered.tokens", "entered.bytes", "entered.nll"}},
      {"score.ppm_weight", "0.25", {"score.nll", "score.notes", "entered.nll", "entered.notes"}},
  };
  return all;
}

/// Test-time training, on bases in which each key means something.
inline std::vector<Line> adapt_lines() {
  const std::vector<std::string> before = {"adapt.when=before", "adapt.then.epochs=2"},
                                 streaming = {"adapt.when=streaming"},
                                 mixture = {"adapt.when=streaming", "adapt.pass_lr=[1, 2]",
                                            "adapt.combine=mixture"};
  std::vector<Line> all = {
      {"adapt.when", "before", {"adapt.when"}, streaming},
      {"adapt.virtual_ranks", "2", {"adapt.virtual_ranks"}, before},
      {"adapt.batch_windows", "3", {"adapt.batch_windows"}, before},
      {"adapt.chunk_windows", "3", {"adapt.chunk_windows"}, streaming},
      {"adapt.order", "permuted", {"adapt.order"}, before},
      {"adapt.shards", "targets", {"adapt.shards"}, before},
      {"adapt.pass_lr", "[1, 3]", {"adapt.pass_lr"}, mixture},
      {"adapt.rotate", "true", {"adapt.rotate"}, mixture},
      {"adapt.combine", "minimum", {"adapt.combination"}, mixture},
      {"adapt.mixture_weights", "[1, 4]", {"adapt.mixture_weights"}, mixture},
      {"adapt.fake_quantize", "true", {"adapt.fake_quantize"}, before},
      {"adapt.tables", "bf16", {"adapt.tables"}, before},
  };
  for (const auto& [prefix, number] : {std::pair("adapt.", "adapt.0."), std::pair("adapt.then.", "adapt.1.")})
    for (const auto& [key, value, member] :
         std::vector<std::array<const char*, 3>>{{"train", "[\"scales\"]", "train"},
                                                 {"optimizer", "sgd", "rule"},
                                                 {"lr", "0.25", "lr"},
                                                 {"lr_groups", "[\"*.mlp.proj.weight=3\"]", "lr_groups"},
                                                 {"beta1", "0.25", "beta1"},
                                                 {"beta2", "0.25", "beta2"},
                                                 {"eps", "0.25", "eps"},
                                                 {"weight_decay", "0.25", "weight_decay"},
                                                 {"momentum", "0.25", "momentum"},
                                                 {"clip", "0.25", "clip"},
                                                 {"schedule", "cosine_steps", "schedule"},
                                                 {"epochs", "5", "epochs"}})
      all.push_back({std::string(prefix) + key, value, {std::string(number) + member}, before});
  return all;
}

/// Lines whose effect only a whole run shows.
inline std::vector<Line> run_lines() {
  const std::vector<std::string> sample = {"generate.tokens=12", "generate.temperature=5"};
  const std::vector<std::string> budget = {"budget.train_seconds=1000000", "budget.artifact_bytes=100000000"};
  return {
      {"name", "\"other\"", {"run/name"}},
      {"score.plain", "false", {"run/raw*", "run/averaged*", "run/score/plain/*"}},
      {"generate.tokens", "5", {"run/sample/text"}, sample},
      {"generate.temperature", "0", {"run/sample/text"}, sample},
      {"generate.top_k", "3", {"run/sample/text"}, sample},
      {"generate.prompt", "\"A rat\"", {"run/sample/text", "run/sample/prompt"}, sample},
      {"budget.train_seconds", "2000000", {"run/budget/train_seconds/allowed"}, budget},
      {"budget.eval_seconds", "1000000", {"run/budget/eval_seconds/*"}, budget},
      {"budget.artifact_bytes",
       "200",
       {"run/budget/artifact_bytes/allowed", "run/budget/artifact_bytes/ok", "run/over_budget*"},
       budget},
  };
}

}  // namespace fairway::pipeline::testing
