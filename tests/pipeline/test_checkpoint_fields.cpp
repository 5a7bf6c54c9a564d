// Every part of a checkpoint is needed: without it, or with it reset, the run that goes on from it differs or
// is refused. Parts are taken from the file itself, so a new one that nothing reads fails the test.
#include "fairway/artifact/artifact.h"
#include "fairway/artifact/checkpoint.h"
#include "fairway/pipeline/run/run.h"
#include "fairway/pipeline/stages/packing.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace fairway::pipeline::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

/// A checkpoint in memory, to be changed.
struct Parts {
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float> values;
  };
  struct Buffer {
    std::string name;
    std::vector<std::byte> bytes;
  };
  std::vector<Tensor> tensors;
  std::vector<Buffer> buffers;
  Json metadata;
  std::optional<artifact::TokenizerSection> tokenizer;
  std::string recipe;

  static Parts read(const std::filesystem::path& path) {
    const auto file = artifact::Checkpoint::open(path);
    Parts p;
    for (const auto& t : file.tensors())
      p.tensors.push_back({t.name, t.shape, {t.values.begin(), t.values.end()}});
    for (const auto& b : file.buffers()) p.buffers.push_back({b.name, {b.bytes.begin(), b.bytes.end()}});
    p.metadata = Json::parse(file.metadata());
    p.tokenizer = file.tokenizer();
    p.recipe = file.recipe_text();
    return p;
  }
  void write(const std::filesystem::path& path) const {
    artifact::CheckpointContents c;
    for (const auto& t : tensors) c.tensors.push_back({t.name, t.shape, t.values});
    for (const auto& b : buffers) c.buffers.push_back({b.name, b.bytes});
    c.metadata = metadata.dump();
    c.tokenizer = tokenizer;
    c.recipe_text = recipe;
    artifact::write_checkpoint(path, c);
  }
  /// All of it by name, without what the clock decides.
  std::map<std::string, std::string> by_name(std::size_t timed_from) const {
    std::map<std::string, std::string> all;
    auto bytes = [](const auto& v) {
      const auto b = std::as_bytes(std::span(v));
      return std::string(reinterpret_cast<const char*>(b.data()), b.size());
    };
    for (const auto& t : tensors) all["tensor " + t.name] = bytes(t.values);
    for (const auto& b : buffers) all["buffer " + b.name] = bytes(b.bytes);
    auto& progress = all["buffer progress.elapsed_ms"];
    progress.resize(std::min(progress.size(), timed_from * sizeof(double)));
    for (const auto& [key, value] : metadata.items())
      if (key != "seconds") all["metadata " + key] = value.dump();
    return all;
  }
};

/// Two steps after a checkpoint of five.
class Fields : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr std::size_t kSaved = 5;
  Fields() : engine(with_threads(2)) {
    // Squared gradients are collected below a scale of 0.5: in steps 5, 6 and 7.
    auto set = [](const char* steps) {
      return std::vector<std::string>{"model.window=32",
                                      "model.width=32",
                                      "model.heads=1",
                                      "model.rope_rescale_length=0",
                                      "score.stride=32",
                                      "train.batch_tokens=256",
                                      "data.train_bytes=60000",
                                      "train.steps=7",
                                      "train.warmdown_steps=7",
                                      "quant.guided_high=0.25",
                                      "quant.passthrough_limit=255",
                                      "qat.mlp=5",
                                      "qat.last_fraction=0.5",
                                      "optim.tables=bf16",
                                      "average.swa_every=1",
                                      "average.swa_below=0.95",
                                      "train.micro_batch=8",
                                      std::string("average.kind=") + GetParam(),
                                      std::string("train.checkpoint_every=") + steps,
                                      "train.keep_checkpoints=9"};
    };
    recipe = small_recipe(set("5"));
    corpus.emplace(prepare_corpus(recipe, engine));
    Trainer trainer(recipe, *corpus, engine);
    trainer.run({}, folder / "c.fwck");
    saved = Parts::read(folder / "c-00000005.fwck");
    end = Parts::read(folder / "c.fwck").by_name(kSaved);
  }
  struct Resumed {
    std::string refused;  ///< the input error; empty: it went on
    std::map<std::string, std::string> end;
    TrainOutcome outcome;
  };
  Resumed go_on(const Parts& from) {
    from.write(folder / "e.fwck");
    Resumed r;
    Trainer trainer(recipe, *corpus, engine);
    r.refused = input_error([&] { trainer.restore(folder / "e.fwck"); });
    if (!r.refused.empty()) return r;
    r.outcome = trainer.run({}, folder / "r.fwck");
    r.end = Parts::read(folder / "r.fwck").by_name(kSaved);
    return r;
  }
  /// Differs from the run that was never stopped, or is refused.
  bool noticed(const Parts& from) {
    const auto r = go_on(from);
    return !r.refused.empty() || r.end != end;
  }

  Folder folder;
  Engine engine;
  Recipe recipe;
  std::optional<Corpus> corpus;
  Parts saved;
  std::map<std::string, std::string> end;
};

/// Other numbers of the same type: floats halved and shifted, counts and times one less.
void reset(std::vector<std::byte>& bytes, const std::string& name) {
  auto each = [&]<class T>(T, auto change) {
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    for (auto& v : values) v = change(v);
    std::memcpy(bytes.data(), values.data(), bytes.size());
  };
  const bool count = name.ends_with(".step") || name.ends_with("count") || name.ends_with("steps");
  if (count)
    each(std::int64_t{}, [](auto v) { return v - 1; });
  else if (name == "progress.elapsed_ms")
    each(double{}, [](auto v) { return v + 1; });
  else
    each(float{}, [](auto v) { return v * 0.5f + 0.03125f; });
}

/// With each kind of average; the other tests with one.
class AverageFields : public Fields {};

TEST_P(AverageFields, GoingOnGivesTheEndOfTheRunThatNeverStopped) {
  const auto r = go_on(saved);
  EXPECT_EQ(r.refused, "");
  ASSERT_EQ(r.end.size(), end.size());
  for (const auto& [name, bytes] : end) EXPECT_TRUE(r.end.at(name) == bytes) << name;
}

TEST_P(AverageFields, EveryBufferIsNeededAndUsed) {
  // Made from the others for whoever opens the file, and made anew by a save.
  const std::set<std::string> derived = {"exported", kSensitivityBuffer};
  ASSERT_GT(saved.buffers.size(), 20u);
  for (std::size_t i = 0; i < saved.buffers.size(); ++i) {
    const auto& name = saved.buffers[i].name;
    if (derived.contains(name)) continue;
    if (std::string(GetParam()) != "ema" && !name.starts_with("average.")) continue;  // seen with "ema"
    auto changed = saved;
    reset(changed.buffers[i].bytes, name);
    EXPECT_TRUE(noticed(changed)) << name << " was reset";
    changed = saved;
    changed.buffers.erase(changed.buffers.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(go_on(changed).refused, HasSubstr("'" + name + "'"));
    changed = saved;
    changed.buffers[i].bytes.pop_back();
    EXPECT_THAT(go_on(changed).refused, HasSubstr("'" + name + "'"));
  }
}

TEST_P(Fields, EveryTensorIsNeededAndUsed) {
  for (std::size_t i = 0; i < saved.tensors.size(); ++i) {
    const auto& name = saved.tensors[i].name;
    auto changed = saved;
    changed.tensors.erase(changed.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(go_on(changed).refused, HasSubstr("'" + name + "'"));
  }
  // One of each group is trained on; a step tells any.
  auto changed = saved;
  for (auto& t : changed.tensors) t.values.front() += 0.25f;
  const auto r = go_on(changed);
  for (const auto& t : saved.tensors)
    EXPECT_NE(r.end.at("tensor " + t.name), end.at("tensor " + t.name)) << t.name;
}

TEST_P(Fields, EveryKeyOfTheMetadataIsNeededAndUsed) {
  using Edit = std::function<void(Json&)>;
  using Seen = std::function<bool(const Resumed&)>;
  const Seen differs = [&](const Resumed& r) { return !r.refused.empty() || r.end != end; };
  auto keeps = [](const char* key, std::string value) {
    return [=](const Resumed& r) { return r.end.at(std::string("metadata ") + key) == value; };
  };
  const std::map<std::string, std::pair<Edit, Seen>> table = {
      {"step", {[](Json& m) { m["step"] = 4; }, [](auto& r) { return !r.refused.empty(); }}},
      {"seconds", {[](Json& m) { m["seconds"] = 5000; }, [](auto& r) { return r.outcome.seconds >= 5000; }}},
      {"loss",
       {[](Json& m) {
          m["loss"] = 77.5;
          m["end"] = "budget";
        },
        [](auto& r) { return r.outcome.last_loss == 77.5; }}},
      {"end",
       {[](Json& m) { m["end"] = "budget"; },
        [](auto& r) { return r.outcome.steps == 5 && r.outcome.end == TrainEnd::budget; }}},
      {"qat_step", {[](Json& m) { m["qat_step"] = 2; }, keeps("qat_step", "2")}},
      {"loader", {[](Json& m) { m["loader"]["position"] = 17; }, differs}},
      {"rows", {[](Json& m) { m["rows"] = 4; }, [](auto& r) { return r.outcome.changes.size() == 1; }}},
      {"build",
       {[](Json& m) { m["build"] = "older"; }, [](auto& r) { return r.outcome.changes.size() == 1; }}},
      {"device",
       {[](Json& m) { m["device"] = "abacus"; }, [](auto& r) { return r.outcome.changes.size() == 1; }}},
      {"isa", {[](Json& m) { m["isa"] = "mmx"; }, [](auto& r) { return r.outcome.changes.size() == 1; }}},
      {"changes", {[](Json& m) { m["changes"] = {"before"}; }, keeps("changes", R"(["before"])")}},
      {"data", {}},  // below: for who packs the checkpoint
  };
  // What may be absent: files of older builds, and lists that are empty.
  const std::set<std::string> optional = {"loss", "end", "qat_step", "changes", "data"};
  for (const auto& [key, value] : saved.metadata.items()) {
    ASSERT_TRUE(table.contains(key)) << "the new key " << key << " needs a line here";
    auto changed = saved;
    if (const auto& [edit, seen] = table.at(key); edit) {
      edit(changed.metadata);
      EXPECT_TRUE(seen(go_on(changed))) << key;
    }
    changed = saved;
    changed.metadata.erase(key);
    const auto refused = go_on(changed).refused;
    EXPECT_EQ(refused.empty(), optional.contains(key)) << key << ": " << refused;
  }
  auto changed = saved;
  changed.metadata["loader"]["step"] = 99;
  EXPECT_NE(go_on(changed).end.at("metadata loader"), end.at("metadata loader"));
  changed.metadata["loader"].erase("step");
  EXPECT_THAT(go_on(changed).refused, HasSubstr("'step'"));
}

TEST_P(AverageFields, WhatPackingTakesFromItIsUsed) {
  auto packed = [&](const Parts& parts) {
    parts.write(folder / "e.fwck");
    pack_checkpoint(folder / "e.fwck", folder / "m.fairway", {}, engine);
    return artifact::read_artifact(folder / "m.fairway");
  };
  auto index_of = [&](std::string_view name) {
    for (std::size_t i = 0; i < saved.buffers.size(); ++i)
      if (saved.buffers[i].name == name) return i;
    return saved.buffers.size();
  };
  const auto whole = packed(saved);
  auto kinds = [](const artifact::Artifact& a) {
    std::string all;
    for (const auto& t : a.tensors) all += t.name + ":" + std::string(artifact::kind_name(t.kind)) + " ";
    return all;
  };
  auto changed = saved;
  changed.metadata["data"] = {{"other", 1}};
  EXPECT_EQ(packed(changed).provenance.data_manifest, R"({"other":1})");

  // Sensitivities turned round: other matrices get the bit more.
  changed = saved;
  auto& sensitivity = changed.buffers.at(index_of(kSensitivityBuffer)).bytes;
  auto json = Json::parse(reinterpret_cast<const char*>(sensitivity.data()),
                          reinterpret_cast<const char*>(sensitivity.data()) + sensitivity.size());
  for (auto& [name, value] : json.items()) value = 1 / (value.get<double>() + 1e-30);
  const auto text = json.dump();
  const auto bytes = std::as_bytes(std::span(text));
  sensitivity.assign(bytes.begin(), bytes.end());
  EXPECT_NE(kinds(packed(changed)), kinds(whole));

  changed = saved;
  reset(changed.buffers.at(index_of("exported")).bytes, "exported");
  const auto other = packed(changed);
  EXPECT_NE(other.find("tok_emb.weight")->q, whole.find("tok_emb.weight")->q);
}

INSTANTIATE_TEST_SUITE_P(Averages, AverageFields, ::testing::Values("ema", "swa"),
                         [](const auto& test) { return std::string(test.param); });
INSTANTIATE_TEST_SUITE_P(Ema, Fields, ::testing::Values("ema"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace fairway::pipeline::testing
