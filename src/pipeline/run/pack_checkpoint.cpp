#include "fairway/pipeline/run/run.h"

#include "fairway/base/file.h"
#include "fairway/base/path.h"
#include "fairway/pipeline/stages/corpus.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/report/metrics.h"
#include "stages/run_files.h"
#include "train/train_checkpoint.h"

#include <nlohmann/json.hpp>

#include <array>

namespace fairway::pipeline {
namespace {

namespace fs = std::filesystem;
using base::fail_input;
using Json = nlohmann::ordered_json;

/// Calibrates on the text that the weights were trained on: the recipe beside the checkpoint says where that
/// is, and `manifest` what it was.
quant::Hessians calibrate_again(const fs::path& checkpoint, const OpenModel& model,
                                const std::string& manifest, exec::Engine& engine) {
  const auto beside = checkpoint.parent_path() / "recipe.toml";
  if (std::error_code none; !fs::is_regular_file(beside, none))
    fail_input(
        "{}: the recipe's quantiser calibrates on the training text, and there is no {} to say where that "
        "is; "
        "pack it in the folder of its run, or by other rules (--set quant.matrix=int6_search --set "
        "quant.table=int8)",
        checkpoint.string(), beside.string());
  auto reading = model.recipe;
  reading.data = load_recipe(beside.string()).recipe.data;
  engine.progress().note("reading the training text once more");
  const auto corpus = prepare_corpus(reading, engine);
  check_same_data(manifest, corpus.manifest, checkpoint.string());
  engine.progress().note("calibrating the quantiser");
  return calibrate(model.recipe, *model.weights, corpus.train, engine);
}

}  // namespace

RunResult pack_checkpoint(const fs::path& given, const fs::path& out, const std::vector<std::string>& set,
                          exec::Engine& engine) {
  const auto checkpoint = checkpoint_of(given);
  base::check_output("--out", out, std::array{checkpoint});
  if (artifact::file_kind(checkpoint) != artifact::FileKind::checkpoint)
    fail_input("{}: not a .fwck checkpoint; `fairway train` writes them", checkpoint.string());
  auto model = open_model(checkpoint);
  if (!set.empty()) {
    const auto text = to_toml(model.recipe);
    const auto changed = parse_recipe(text, "recipe of " + checkpoint.string(), {}, {.set = set}).recipe;
    for (const auto& key : changed_keys(model.recipe, changed))
      if (!key.starts_with("quant.")) fail_input("--set {}: only quant keys can change when packing", key);
    model.recipe = changed;
  }
  const auto file = artifact::Checkpoint::open(checkpoint);
  const auto metadata = Json::parse(file.metadata());
  const auto manifest = metadata.contains("data") ? metadata["data"].dump() : "{}";
  Measured measured;
  if (const auto* saved = file.buffer(kSensitivityBuffer)) {
    const std::string_view text(reinterpret_cast<const char*>(saved->bytes.data()), saved->bytes.size());
    measured.sensitivity = parse_sensitivity(text, checkpoint.string());
  }
  if (needs_hessians(model.recipe, model.weights->layout()))
    measured.hessians = calibrate_again(checkpoint, model, manifest, engine);
  const auto ledger = pack(model.recipe, *model.weights, model.tokenizer, manifest, out, engine, measured);
  auto json = ledger.to_json();
  json["path"] = out.string();
  return {report::json_text(json), false};
}

}  // namespace fairway::pipeline
