// Every number of a run's result is recomputed from its parts in an independent, obvious way.
#include "fairway/artifact/size_ledger.h"
#include "fairway/base/hash.h"
#include "fairway/pipeline/run/run.h"
#include "fairway/pipeline/stages/generate.h"
#include "fairway/report/metrics.h"
#include "stages.h"
#include "sweep/sweep_table.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

namespace fairway::pipeline::testing {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

/// Bytes, tokens, nats and what follows from them.
void expect_score(const Json& s, std::int64_t tokens, std::int64_t bytes) {
  const double nll = s["nll"];
  EXPECT_EQ(s["tokens"], tokens);
  EXPECT_EQ(s["bytes"], bytes);
  EXPECT_DOUBLE_EQ(s["loss"], nll / static_cast<double>(tokens));
  EXPECT_NEAR(s["bits_per_byte"], nll / std::log(2.0) / static_cast<double>(bytes), 1e-12);
  EXPECT_GT(nll, 0);
  EXPECT_GT(s["seconds"], 0);
  if (!s.contains("documents")) return;
  double sum = 0;
  std::int64_t count = 0, length = 0, next = 0;
  for (const auto& d : s["documents"]) {
    EXPECT_EQ(d["first_target"], next);
    next += d["tokens"].get<std::int64_t>();
    sum += d["nll"].get<double>();
    count += d["tokens"].get<std::int64_t>();
    length += d["bytes"].get<std::int64_t>();
  }
  EXPECT_EQ(count, tokens);
  EXPECT_EQ(length, bytes);
  EXPECT_NEAR(sum, nll, 1e-9 * nll);
}

TEST(ResultNumbers, AreWhatTheirPartsSay) {
  const Folder folder;
  Engine engine(with_threads(2));
  const auto recipe =
      small_recipe({"data.train_bytes=60000", "train.steps=5", "train.log_every=1", "train.validate_every=2",
                    "score.tokens=400", "score.stride=32", "adapt.when=streaming", "adapt.chunk_windows=1",
                    "adapt.epochs=2", "generate.tokens=6", "budget.train_seconds=1000",
                    "budget.eval_seconds=2000", "budget.artifact_bytes=900000", "average.decay=0.5"});
  RunOptions options;
  options.recipe = {recipe, "builtin:demo", {}, "tiny"};
  options.out = folder / "r";
  const auto text = run(options, engine).json;
  EXPECT_EQ(base::read_text_file(folder / "r/result.json"), text);
  const auto r = Json::parse(text);
  const auto corpus = prepare_corpus(recipe, engine);

  // Who and what.
  EXPECT_EQ(r["name"], recipe.name);
  EXPECT_EQ(r["seed"], recipe.seed);
  EXPECT_EQ(r["threads"], 2);
  EXPECT_EQ(r["build"], build_version());
  EXPECT_EQ(r["data"].dump(), Json::parse(corpus.manifest).dump());

  // Training, against its log.
  const auto log = report::read_metrics(folder / "r/metrics.jsonl");
  const auto& t = r["train"];
  ASSERT_EQ(log.size(), 5u);
  EXPECT_EQ(t["steps"], 5);
  EXPECT_EQ(t["loss"], log.back()["loss"]);
  EXPECT_GE(t["seconds"], log.back()["seconds"]);
  EXPECT_NEAR(t["tokens_per_second"], 5.0 * 1024 / t["seconds"].get<double>(),
              1e-6 * t["tokens_per_second"].get<double>());
  EXPECT_EQ(t["parameters"], model::make_layout(recipe.model).count());
  EXPECT_EQ(t["end"], "schedule");
  EXPECT_EQ(t["averaged"], 5);
  EXPECT_EQ(t["qat_step"], 0);
  for (std::size_t i = 0; i < log.size(); ++i) {
    EXPECT_EQ(log[i]["step"], i + 1);
    EXPECT_DOUBLE_EQ(log[i]["lr_scale"],
                     std::min(1.0, (5.0 - static_cast<double>(i)) / recipe.train.warmdown_steps));
    EXPECT_EQ(log[i].contains("validation_loss"), (i + 1) % 2 == 0) << i;
    if (i > 0) {
      EXPECT_GE(log[i]["seconds"], log[i - 1]["seconds"]);
    }
  }

  // Scores, by another call for the same weights.
  std::int64_t bytes = 0;
  {
    std::vector<std::uint16_t> first(corpus.validation.tokens.begin(),
                                     corpus.validation.tokens.begin() + 401);
    std::size_t begin = 0;
    for (std::size_t i = 1; i <= first.size(); ++i)
      if (i == first.size() || first[i] == corpus.tokenizer.bos_id()) {
        bytes += static_cast<std::int64_t>(
            corpus.tokenizer.decode(std::span<const std::uint16_t>(first).subspan(begin, i - begin)).size());
        begin = i;
      }
  }
  for (const auto& [set, kind] : std::vector<std::pair<const char*, const char*>>{{"raw", "plain"},
                                                                                  {"averaged", "plain"},
                                                                                  {"score", "plain"},
                                                                                  {"score", "sliding"},
                                                                                  {"adapted", "sliding"}}) {
    SCOPED_TRACE(std::string(set) + " " + kind);
    expect_score(r[set][kind], 400, bytes);
    EXPECT_EQ(r[set][kind]["verdict"], "valid");
    EXPECT_EQ(r[set][kind]["stride"], std::string(kind) == "plain" ? 128 : 32);
  }
  EXPECT_FALSE(r["raw"].contains("sliding"));
  auto scored = [&](const OpenModel& m, int stride) {
    return score_text(recipe.model, *m.weights, corpus.tokenizer, corpus.validation, recipe.score, stride,
                      engine)
        .nll;
  };
  EXPECT_EQ(r["raw"]["plain"]["nll"], scored(open_model(folder / "r/checkpoint.fwck", Weights::raw), 0));
  EXPECT_EQ(r["averaged"]["plain"]["nll"], scored(open_model(folder / "r/checkpoint.fwck"), 0));
  EXPECT_EQ(r["score"]["plain"]["nll"], scored(open_model(folder / "r/model.fairway"), 0));
  EXPECT_EQ(r["score"]["sliding"]["nll"], scored(open_model(folder / "r/model.fairway"), 32));
  EXPECT_NE(r["adapted"]["sliding"]["nll"], r["score"]["sliding"]["nll"]);
  const std::set<double> different = {r["raw"]["plain"]["nll"], r["averaged"]["plain"]["nll"],
                                      r["score"]["plain"]["nll"]};
  EXPECT_EQ(different.size(), 3u);

  // Adaptation: 400 targets are four chunks of one window, the last (short) one and its predecessor's rest.
  const auto& a = r["adapted"]["sliding"];
  EXPECT_EQ(a["tokens_learnt_before_their_score"], 0);
  EXPECT_EQ(a["tokens_trained"], 3 * 2 * 128);
  EXPECT_EQ(a["training"][0]["steps"], 3 * 2);
  EXPECT_EQ(a["training"][0]["windows"], 3 * 2);
  EXPECT_EQ(a["training"][0]["elements"], model::make_layout(recipe.model).count());
  EXPECT_EQ(a["over_budget"], false);
  EXPECT_GT(a["train_seconds"], 0);
  EXPECT_GT(a["score_seconds"], 0);
  EXPECT_LE(a["train_seconds"].get<double>() + a["score_seconds"].get<double>(),
            a["seconds"].get<double>() * 1.001);

  // Sizes, from the file.
  const auto& f = r["artifact"];
  const auto size = std::filesystem::file_size(folder / "r/model.fairway");
  EXPECT_EQ(f["file_bytes"], size);
  EXPECT_EQ(f["challenge_bytes"], size - f["tokenizer_bytes"].get<std::uint64_t>() + artifact::code_bytes());
  EXPECT_EQ(f["self_contained_bytes"], size + artifact::code_bytes());
  std::uint64_t parts = 0;
  for (const auto& p : f["parts"]) parts += p["stored_bytes"].get<std::uint64_t>();
  EXPECT_EQ(parts, size);

  // Budgets: what was used is what stands elsewhere.
  const auto& b = r["budget"];
  EXPECT_EQ(b["train_seconds"]["used"], t["seconds"]);
  EXPECT_EQ(b["train_seconds"]["allowed"], 1000);
  EXPECT_EQ(b["train_seconds"]["ok"], true);
  EXPECT_DOUBLE_EQ(b["eval_seconds"]["used"], r["score"]["plain"]["seconds"].get<double>() +
                                                  r["score"]["sliding"]["seconds"].get<double>());
  EXPECT_EQ(b["eval_seconds"]["allowed"], 2000);
  EXPECT_GT(b["eval_seconds"]["forecast"], 0);
  EXPECT_EQ(b["artifact_bytes"]["used"], f["challenge_bytes"]);
  EXPECT_EQ(b["artifact_bytes"]["allowed"], 900000);
  EXPECT_EQ(b["artifact_bytes"]["ok"], f["challenge_bytes"] <= 900000);
  EXPECT_EQ(r["over_budget"].size(), f["challenge_bytes"] <= 900000 ? 0u : 1u);

  // Compressors, on the text that was scored.
  for (const auto& c : r["compressors"])
    EXPECT_NEAR(c["bits_per_byte"], 8.0 * c["bytes"].get<double>() / static_cast<double>(bytes), 1e-12)
        << c["name"];
  EXPECT_GE(r["compressors"].size(), 2u);

  // Memory.
  std::uint64_t memory = 0;
  for (const auto& [what, n] : r["memory"].items()) memory += n.get<std::uint64_t>();
  EXPECT_GT(memory, 0u);
  EXPECT_GE(r["peak_memory_bytes"].get<std::uint64_t>(), memory / 2);

  // The sample is what the model in the file draws.
  const auto model = open_model(folder / "r/model.fairway");
  GenerateOptions g;
  g.tokens = recipe.generate.tokens;
  g.temperature = recipe.generate.temperature;
  g.top_k = recipe.generate.top_k;
  g.prompt = recipe.generate.prompt;
  g.seed = static_cast<std::uint64_t>(recipe.seed);
  EXPECT_EQ(r["sample"]["text"], generate(model, g, engine).text);
  EXPECT_EQ(base::read_text_file(folder / "r/sample.txt"),
            g.prompt + r["sample"]["text"].get<std::string>() + "\n");
}

// Drawing.

TEST(Generate, EachTokenIsDrawnAnew) {
  Engine engine(with_threads(1));
  const auto recipe = small_recipe({"data.train_bytes=60000"});
  const auto corpus = prepare_corpus(recipe, engine);
  const auto model = fresh_model(recipe, corpus.tokenizer, engine, true);  // all tokens alike
  GenerateOptions o;
  o.tokens = 40;
  o.temperature = 1;
  o.top_k = 0;
  const auto made = generate(model, o, engine);
  const std::set<std::int32_t> different(made.tokens.begin(), made.tokens.end());
  ASSERT_GT(made.tokens.size(), 5u);
  EXPECT_GT(different.size(), made.tokens.size() / 2);
  o.top_k = 3;  // of equals those with the lowest numbers
  for (const auto token : generate(model, o, engine).tokens) EXPECT_LT(token, 3);
}

TEST(Generate, HeatFlattensAndColdSharpens) {
  Engine engine(with_threads(1));
  const auto recipe = small_recipe({"data.train_bytes=60000"});
  const auto corpus = prepare_corpus(recipe, engine);
  auto model = fresh_model(recipe, corpus.tokenizer, engine);
  for (auto& v : model.weights->value("tok_emb.weight").span<float>()) v *= 40;
  auto likely = [&](double temperature) {
    // How often the most likely token is drawn, over first tokens of many seeds.
    GenerateOptions o;
    o.tokens = 1;
    o.temperature = 0;
    o.top_k = 0;
    const auto best = generate(model, o, engine).tokens;
    o.temperature = temperature;
    int hits = 0;
    for (o.seed = 0; o.seed < 60; ++o.seed) hits += generate(model, o, engine).tokens == best;
    return hits;
  };
  exec::ModelRunner runner(recipe.model, *model.weights, engine);
  Decoder decoder(runner);
  const std::int32_t bos = corpus.tokenizer.bos_id();
  const auto logits = decoder.feed({&bos, 1});
  const double top = *std::max_element(logits.begin(), logits.end());
  auto share = [&](double temperature) {
    double sum = 0;
    for (const float l : logits) sum += std::exp((static_cast<double>(l) - top) / temperature);
    return 1 / sum;
  };
  for (const double temperature : {0.25, 4.0}) {
    const double p = share(temperature), slack = 4 * std::sqrt(60 * p * (1 - p)) + 1;
    EXPECT_NEAR(likely(temperature), 60 * p, slack) << temperature << " " << p;
  }
  EXPECT_GT(share(0.25), share(4) + 0.4) << "else this test cannot tell";
}

// Sweeps: cells from results, rows from cells.

Json result_of(double raw, std::optional<double> averaged, double packed, double sliding) {
  Json r = {
      {"raw", {{"plain", {{"loss", raw}}}}},
      {"score",
       {{"plain", {{"loss", packed}, {"bits_per_byte", packed / 2}, {"verdict", "valid"}}},
        {"sliding",
         {{"loss", sliding}, {"bits_per_byte", sliding / 3}, {"verdict", "valid with side information"}}}}},
      {"artifact", {{"challenge_bytes", 1234}}}};
  if (averaged) r["averaged"] = {{"plain", {{"loss", *averaged}}}};
  return r;
}

Sweep sweep_of(std::string metric) {
  Sweep s;
  s.metric = std::move(metric);
  s.baseline = "base";
  s.variants = {{"base", "", "", {}}, {"other", "a note", "score.plain.loss", {}}};
  s.seeds = {1, 2, 3};
  return s;
}

TEST(SweepNumbers, ACellTakesEachFromItsPlace) {
  const auto sweep = sweep_of("score.sliding.loss");
  SweepCell cell;
  cell.variant = "base";
  read_cell(sweep, result_of(2.5, 2.25, 2.375, 2.0), cell);
  EXPECT_EQ(cell.metric, 2.0);
  EXPECT_EQ(cell.bits_per_byte, 2.0 / 3);
  EXPECT_EQ(cell.verdict, "valid with side information");
  EXPECT_EQ(cell.artifact_bytes, 1234);
  EXPECT_EQ(cell.quantisation_gap, 2.375 - 2.25) << "the averaged weights were packed";
  read_cell(sweep, result_of(2.5, {}, 2.375, 2.0), cell);
  EXPECT_EQ(cell.quantisation_gap, 2.375 - 2.5) << "the raw ones were";
  SweepCell own;
  own.variant = "other";
  read_cell(sweep, result_of(2.5, 2.25, 2.375, 2.0), own);
  EXPECT_EQ(own.metric, 2.375) << "a variant's own metric";
  EXPECT_EQ(own.bits_per_byte, 2.375 / 2);
  EXPECT_EQ(own.verdict, "valid");
  SweepCell none;
  none.variant = "base";
  read_cell(sweep_of("score.sliding.los"), result_of(2.5, {}, 2.375, 2.0), none);
  EXPECT_FALSE(none.metric);
  EXPECT_THAT(none.error, HasSubstr("no number 'score.sliding.los' (the sweep's metric)"));
}

TEST(SweepNumbers, RowsAreMeansOfTheirCells) {
  const auto sweep = sweep_of("score.sliding.loss");
  std::vector<SweepCell> cells;
  auto cell = [&](const char* variant, double metric, double bits, double gap, double bytes) {
    SweepCell c;
    c.variant = variant;
    c.metric = metric;
    c.bits_per_byte = bits;
    c.quantisation_gap = gap;
    c.artifact_bytes = bytes;
    c.verdict = "valid";
    cells.push_back(c);
  };
  cell("base", 2.0, 1.0, 0.1, 1000);
  cell("other", 1.5, 0.7, 0.2, 2000);
  cell("base", 2.1, 1.2, 0.3, 1010);
  cell("other", 1.7, 0.9, 0.4, 2020);
  cell("base", 2.3, 1.7, 0.5, 1050);
  SweepCell failed;
  failed.variant = "other";
  failed.error = "no";
  cells.push_back(failed);
  const auto rows = sweep_rows(sweep, cells);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].runs, 3u);
  EXPECT_EQ(rows[1].runs, 2u);
  EXPECT_NEAR(*rows[0].mean, 6.4 / 3, 1e-15);
  EXPECT_NEAR(
      *rows[0].deviation,
      std::sqrt((std::pow(2.0 - 6.4 / 3, 2) + std::pow(2.1 - 6.4 / 3, 2) + std::pow(2.3 - 6.4 / 3, 2)) / 2),
      1e-12);
  EXPECT_NEAR(*rows[0].bits_per_byte, 3.9 / 3, 1e-15);
  EXPECT_NEAR(*rows[1].quantisation_gap, 0.3, 1e-15);
  EXPECT_NEAR(*rows[1].artifact_bytes, 2010, 1e-9);
  EXPECT_NEAR(*rows[1].difference, 1.6 - 6.4 / 3, 1e-12);
  EXPECT_EQ(rows[1].note, "a note");
  EXPECT_EQ(rows[1].metric, "score.plain.loss");
  EXPECT_EQ(rows[0].metric, "score.sliding.loss");
}

TEST(SweepNumbers, ARunOfASweepSaysWhatFailedAndWhichIsTheBaseline) {
  const Folder folder;
  const auto cell = [](const char* name, std::vector<std::string> set) {
    return SweepVariant{name, "", "", std::move(set)};
  };
  Sweep sweep;
  sweep.name = "s";
  sweep.base = "demo";
  sweep.scale = "tiny";
  sweep.metric = "score.plain.loss";
  sweep.seeds = {1};
  sweep.variants = {cell("good", {}), cell("bad", {"budget.artifact_bytes=10", "budget.enforce=true"})};
  sweep.baseline = "good";
  SweepOptions options;
  options.out = folder / "sweep";
  options.more.set = {"model.vocab_size=320",   "model.layers=1",        "model.width=32",
                      "model.heads=1",          "model.kv_heads=1",      "model.ve_layers=[0]",
                      "model.xsa_layers=[0]",   "model.window=32",       "model.bigram_rows=64",
                      "data.train_bytes=60000", "train.steps=1",         "train.batch_tokens=256",
                      "score.stride=0",         "score.tokens=100",      "generate.tokens=0",
                      "quant.level=3",          "train.validate_every=0"};
  const auto result = run_sweep(sweep, options, with_threads(2));
  EXPECT_TRUE(result.failed);
  const auto json = Json::parse(result.json);
  EXPECT_EQ(base::read_text_file(folder / "sweep/sweep.json"), result.json);
  EXPECT_EQ(json["failed"], true);
  EXPECT_EQ(json["baseline"], "good");
  EXPECT_EQ(json["cells"][0]["state"], "finished");
  EXPECT_EQ(json["cells"][1]["state"], "failed");
  EXPECT_THAT(json["cells"][1]["error"].get<std::string>(), HasSubstr("budget.artifact_bytes allows 10"));
  const auto own = Json::parse(base::read_text_file(folder / "sweep/good/seed-1/result.json"));
  EXPECT_EQ(json["cells"][0]["metric"], own["score"]["plain"]["loss"]);
  EXPECT_EQ(json["table"][0]["mean"], own["score"]["plain"]["loss"]);
  EXPECT_EQ(json["cells"][0]["bits_per_byte"], own["score"]["plain"]["bits_per_byte"]);
  sweep.variants.pop_back();
  options.resume = true;
  EXPECT_FALSE(run_sweep(sweep, options, with_threads(2)).failed);

  const auto file = parse_sweep(
      "base = \"demo\"\nscale = \"tiny\"\nseeds = [1]\n[[variant]]\nname = \"first\"\n[[variant]]\nname = "
      "\"second\"\n",
      "s.toml", "");
  EXPECT_EQ(file.baseline, "first") << "the first, where the file does not say";
}

}  // namespace
}  // namespace fairway::pipeline::testing
