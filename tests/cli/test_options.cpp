// Every option of every command does what it says: one entry each, taken from what --help lists. An option
// without an entry fails the test.
#include "program.h"

#include <gmock/gmock.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

namespace fairway::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const std::string kTokenizer = FAIRWAY_DATA_DIR "/tokenizers/fineweb_1024_bpe.model";
const std::string kCaseOps =
    FAIRWAY_DATA_DIR "/tokenizers/fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model";

/// A model of one layer on a text of a page, trained once.
class Options : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new Folder();
    std::string lines, objects, rare;
    for (int i = 0; i < 120; ++i) {
      const auto line =
          "Line " + std::to_string(i) + " of a text about " + std::to_string(i * 7919 % 101) + " moles.";
      lines += line + (i % 4 == 3 ? "\n\n" : "\n");
      std::string body = "A body";
      for (int k = 1; k < 6; ++k)
        for (int j = 0; j < 4; ++j)
          body += (j ? "" : " ") + std::string(1, static_cast<char>('a' + (i * k + j * j) % 26));
      objects += R"({"text": ")" + line + R"(", "body": ")" + body + "\"}\n";
      rare += body + (i % 10 == 9 ? std::string("\xC3") + static_cast<char>(0xA0 + i % 7) : "") + "\n";
    }
    write("rare.txt", rare);
    write("part.txt", base::read_text_file(FAIRWAY_DATA_DIR "/demo/demo.txt").substr(0, 50'000));
    write("a.txt", lines);
    write("b.jsonl", objects);
    write("tail.txt", "Some  words\n\n\xE2\x98\x83 and  more of them, for the end.\n");
    json_of(Words{"data", "build", "a.txt", "--tokenizer", kTokenizer, "--out", "shards", "--split-on",
                  "line", "--validation"});
    json_of(train("base", {"train.steps=4", "train.checkpoint_every=2"}));
    json_of(Words{"pack", "base/checkpoint.fwck", "--out", "m.fairway"});
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static void write(const std::string& name, const std::string& text) {
    base::write_file(*folder_ / name, std::string_view(text));
  }
  static Words sets(const Words& keys) {
    Words words;
    for (const auto& key : keys) words = words + Words{"--set", key};
    return words;
  }
  static Words keys(const Words& more = {}) {
    return sets(Words{"model.vocab_size=1024",
                      "model.layers=1",
                      "model.width=32",
                      "model.heads=2",
                      "model.kv_heads=1",
                      "model.mlp_mult=2",
                      "model.window=32",
                      "model.rope_dims=8",
                      "model.rope_rescale_length=0",
                      "model.bigram_rows=0",
                      "model.ve_dim=0",
                      "model.ve_layers=[]",
                      "model.xsa_layers=[]",
                      "data.train=[\"a.txt\"]",
                      "data.tokenizer=" + kTokenizer,
                      "data.split_on=line",
                      "data.min_document_bytes=0",
                      "data.holdout_every=5",
                      "train.batch_tokens=256",
                      "train.steps=2",
                      "train.warmdown_steps=1",
                      "train.validate_every=0",
                      "quant.level=3",
                      "quant.passthrough_limit=255",
                      "score.stride=16",
                      "score.tokens=60",
                      "generate.tokens=0"} +
                more);
  }
  static Words train(const std::string& out, const Words& more = {}) {
    return Words{"train", "demo", "--scale", "tiny", "--out", out} + keys(more);
  }
  static Outcome said(const Words& words) { return fairway(*folder_, words); }
  static Json json_of(const Words& words) {
    const auto outcome = said(words + Words{"--json"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.code == 0 ? Json::parse(outcome.out) : Json();
  }
  static std::string file(const std::string& name) { return base::read_text_file(*folder_ / name); }
  static bool exists(const std::string& name) { return std::filesystem::exists(*folder_ / name); }

  /// `more`, and of `defaults` (option, value, ...) those that it doesn't hold.
  static Words with(Words more, const Words& defaults) {
    const auto own = more;
    for (std::size_t i = 0; i + 1 < defaults.size(); i += 2)
      if (std::ranges::count(own, defaults[i]) == 0) more = more + Words{defaults[i], defaults[i + 1]};
    return more;
  }

  // Commands that are asked more than once.
  static Json score(const Words& more) {
    return json_of(Words{"score", "m.fairway", "--text", "tail.txt"} + more);
  }
  static Json adapt(const Words& more, const Words& text = {"--text", "a.txt"}) {
    return json_of(Words{"adapt", "m.fairway"} + text + more +
                   sets({"score.tokens=0"}))["adapted"]["sliding"];
  }
  static Json verify(const Words& more, const Words& text = {"--text", "a.txt", "--tokens", "150"}) {
    return json_of(Words{"verify", "m.fairway"} + text + with(more, {"--flips", "1", "--windows", "2"}));
  }
  static std::string sampled(const Words& more) {
    const auto outcome = said(Words{"generate", "m.fairway", "--quiet"} +
                              with(more, {"--tokens", "12", "--temperature", "9", "--top-k", "0"}));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_NE(outcome.out, "");
    return outcome.out;
  }
  static Json build(const std::string& out, const Words& more, const Words& files = {"a.txt"}) {
    return json_of(Words{"data", "build"} + files + Words{"--tokenizer", kTokenizer, "--out", out} + more);
  }
  static Json build_caseops(const std::string& out, const Words& more) {
    return json_of(Words{"data", "build", "a.txt", "--tokenizer", kCaseOps, "--out", out} + more);
  }
  static Json tokenizer(const Words& more, const Words& files = {"b.jsonl"}) {
    return json_of(Words{"tokenizer", "train"} + files +
                   with(more, {"--out", "t.model", "--vocab-size", "300"}));
  }

  static Folder* folder_;
};
Folder* Options::folder_ = nullptr;

using Entry = std::function<void()>;

/// The long options that `command --help` lists, the common ones (which have tests of their own) left out.
std::set<std::string> listed(const std::string& help) {
  std::set<std::string> names;
  static const std::regex option(R"((?:^|\n) +(?:-\w,)? *(--[a-z][a-z-]*))");
  for (std::sregex_iterator at(help.begin(), help.end(), option), end; at != end; ++at)
    names.insert((*at)[1]);
  return names;
}

const std::set<std::string> kCommon = {"--help", "--json", "--quiet", "--threads", "--isa", "--device"};

/// All commands with their subcommands, as --help lists them.
std::vector<std::string> commands_of(const std::function<std::string(const Words&)>& help,
                                     const Words& path = {}) {
  const auto text = help(path);
  const auto from = text.find("Subcommands:");
  if (from == text.npos) {
    std::string name;
    for (const auto& word : path) name += (name.empty() ? "" : " ") + word;
    return {name};
  }
  std::vector<std::string> all;
  const auto list = text.substr(from);
  static const std::regex command(R"(\n  ([a-z]+) )");
  for (std::sregex_iterator at(list.begin(), list.end(), command), end; at != end; ++at) {
    const auto below = commands_of(help, path + Words{(*at)[1]});
    all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

class OptionEntries : public Options {
 protected:
  OptionEntries() {
    run_and_train();
    files();
    scores();
    adaptation();
    looking();
    text();
    data();
    sweeps();
  }
  void add(const std::string& command, const std::string& option, Entry entry) {
    EXPECT_TRUE(entries_.emplace(command + " " + option, std::move(entry)).second) << command << option;
  }

  void recipe_options(const std::string& command, const std::function<Json(const Words&)>& shown,
                      const std::string& at) {
    const Json::json_pointer steps(at);
    add(command, "--set", [=] { EXPECT_EQ(shown(sets({"train.steps=3"}))[steps], 3); });
    add(command, "--scale", [=] { EXPECT_EQ(shown({"--scale", "tiny"})[steps], 40); });
  }

  void run_and_train() {
    for (const std::string command : {"run", "train"}) {
      auto go = [=](const std::string& out, const Words& more) {
        return json_of(Words{command, "demo", "--out", command + out} + keys() + more);
      };
      auto checkpoint = [=](const std::string& out) { return file(command + out + "/checkpoint.fwck"); };
      add(command, "--out", [=] {
        go("-o", {});
        EXPECT_TRUE(exists(command + "-o/result.json"));
      });
      add(command, "--set", [=] { EXPECT_EQ(go("-s", sets({"train.steps=3"}))["train"]["steps"], 3); });
      add(command, "--scale", [=] {
        go("-f", {"--scale", "0.5"});
        EXPECT_THAT(file(command + "-f/recipe.toml"), HasSubstr("warmdown_steps = 1"));
        EXPECT_THAT(file(command + "-f/recipe.toml"), HasSubstr("muon_momentum_steps = 50"));
      });
      add(command, "--seed", [=] { EXPECT_EQ(go("-7", {"--seed", "7"})["seed"], 7); });
      add(command, "--init", [=] {
        json_of(Words{"export", "base/checkpoint.fwck", "--out", "init.safetensors", "--raw"});
        go("-i", Words{"--init", "init.safetensors"} + sets({"train.steps=0"}));
        json_of(Words{"export", command + "-i/checkpoint.fwck", "--out", "back.safetensors", "--raw"});
        const auto values = [](const std::string& text) { return text.substr(text.size() - 4096); };
        EXPECT_EQ(values(file("back.safetensors")), values(file("init.safetensors")));
      });
      add(command, "--resume", [=] {
        go("-r", {});
        const auto again = said(Words{command, "demo", "--out", command + "-r"} + keys());
        EXPECT_EQ(again.code, 2);
        EXPECT_THAT(again.err, HasSubstr("--resume"));
        go("-r", {"--resume"});
      });
      add(command, "--replay", [=] {
        const Words clock = sets({"train.schedule=wall_clock", "train.steps=3"});
        go("-a", clock);
        auto replay = Json::parse(file(command + "-a/replay.json"));
        replay["elapsed_ms"] = {0, 1000, 300000, 599000};
        write(command + "-a/replay.json", replay.dump());
        const auto json = go("-b", clock + Words{"--replay", command + "-a"});
        EXPECT_EQ(json["train"]["end"], "replay");
        EXPECT_EQ(json["train"]["steps"], 4);
        // Without a recipe: that run's.
        EXPECT_EQ(
            json_of(Words{command, "--out", command + "-c", "--replay", command + "-b"})["train"]["steps"],
            4);
        EXPECT_EQ(checkpoint("-b").size(), checkpoint("-c").size());
      });
    }
  }

  void files() {
    add("pack", "--out", [] { EXPECT_TRUE(exists("m.fairway")); });
    add("pack", "--set", [] {
      json_of(Words{"pack", "base/checkpoint.fwck", "--out", "five.fairway"} +
              sets({"quant.matrix=int5_rowmax"}));
      EXPECT_THAT(json_of({"inspect", "five.fairway", "--tensors"})["tensors"].dump(), HasSubstr("int5"));
      EXPECT_THAT(json_of({"inspect", "m.fairway", "--tensors"})["tensors"].dump(), Not(HasSubstr("int5")));
    });
    add("inspect", "--tensors", [] {
      EXPECT_TRUE(json_of({"inspect", "m.fairway", "--tensors"}).contains("tensors"));
      EXPECT_FALSE(json_of({"inspect", "m.fairway"}).contains("tensors"));
    });
    add("inspect", "--coders", [] {
      EXPECT_EQ(json_of({"inspect", "m.fairway", "--coders"})["coders"]["list"].size(), 6u);
      EXPECT_FALSE(json_of({"inspect", "m.fairway"}).contains("coders"));
    });
    add("export", "--out", [] {
      json_of({"export", "m.fairway", "--out", "e.safetensors"});
      EXPECT_EQ(json_of({"inspect", "e.safetensors"})["kind"], "safetensors");
    });
    add("export", "--raw", [] {
      json_of({"export", "base/checkpoint.fwck", "--out", "average.safetensors"});
      json_of({"export", "base/checkpoint.fwck", "--out", "raw.safetensors", "--raw"});
      EXPECT_NE(file("average.safetensors"), file("raw.safetensors"));
    });
  }

  void scores() {
    add("score", "--text", [] { EXPECT_EQ(score({})["sliding"]["documents"].size(), 2u); });
    add("score", "--shards", [] {
      const auto json = json_of({"score", "m.fairway", "--shards", "shards/*.bin"});
      const auto info = json_of({"data", "info", "shards/*.bin"});
      EXPECT_EQ(json["sliding"]["tokens"], info["tokens"].get<int>() - 1);
    });
    add("score", "--stride", [] {
      EXPECT_EQ(score({"--stride", "8"})["sliding"]["stride"], 8);
      EXPECT_TRUE(score({"--stride", "0"}).contains("plain"));
    });
    add("score", "--window", [] {
      EXPECT_EQ(score({"--window", "80"})["sliding"]["window"], 80);
      EXPECT_EQ(said({"score", "m.fairway", "--text", "tail.txt", "--window", "1"}).code, 2);
    });
    add("score", "--plain", [] {
      EXPECT_TRUE(score({"--plain"}).contains("plain"));
      EXPECT_FALSE(score({}).contains("plain"));
    });
    add("score", "--raw", [] {
      const Words checkpoint = {"score", "base/checkpoint.fwck", "--text", "tail.txt"};
      EXPECT_NE(json_of(checkpoint)["sliding"]["nll"],
                json_of(checkpoint + Words{"--raw"})["sliding"]["nll"]);
    });
    add("score", "--tail", [] {
      EXPECT_EQ(json_of({"score", "m.fairway", "--text", "a.txt", "--tail", "published"})["sliding"]["tail"],
                "published");
      EXPECT_EQ(score({})["sliding"]["tail"], "clean");
    });
    add("score", "--rule", [] {
      for (const std::string rule : {"challenge", "exact"})
        EXPECT_EQ(score({"--rule", rule})["sliding"]["rule"], rule);
    });
    add("score", "--split-on", [] {
      EXPECT_EQ(score({"--split-on", "line"})["sliding"]["documents"].size(), 2u);
      EXPECT_EQ(score({"--split-on", "file"})["sliding"]["documents"].size(), 1u);
    });
    add("score", "--field", [] {
      const Words objects = {"score", "m.fairway", "--text", "b.jsonl", "--stride", "0"};
      EXPECT_NE(json_of(objects + Words{"--field", "body"})["plain"]["bytes"],
                json_of(objects)["plain"]["bytes"]);
    });
    add("score", "--skip-bad-lines", [] {
      leaves_bad_lines_out({"score", "m.fairway", "--text", "bad.jsonl"});
    });
    add("score", "--tokens", [] { EXPECT_EQ(score({"--tokens", "9"})["sliding"]["tokens"], 9); });
    add("generate", "--prompt", [] {
      EXPECT_THAT(sampled({"--prompt", "A mole"}), ::testing::StartsWith("A mole"));
    });
    add("generate", "--tokens", [] {
      EXPECT_LT(sampled({"--tokens", "2"}).size(), sampled({"--tokens", "40"}).size());
    });
    add("generate", "--temperature", [] {
      EXPECT_EQ(sampled({"--temperature", "0", "--seed", "1"}),
                sampled({"--temperature", "0", "--seed", "2"}));
    });
    add("generate", "--top-k", [] {
      EXPECT_EQ(sampled({"--top-k", "1", "--seed", "1"}), sampled({"--top-k", "1", "--seed", "2"}));
    });
    add("generate", "--seed", [] {
      EXPECT_NE(sampled({"--seed", "1"}), sampled({"--seed", "2"}));
      EXPECT_EQ(sampled({"--seed", "1"}), sampled({"--seed", "1"}));
    });
  }

  /// A line that is no document: an input error, or left out.
  static void leaves_bad_lines_out(const Words& command) {
    write("bad.jsonl", file("b.jsonl") + "no JSON\n");
    EXPECT_EQ(said(command).code, 2);
    const auto left_out = said(command + Words{"--skip-bad-lines"});
    EXPECT_EQ(left_out.code, 0) << left_out.err;
  }

  void adaptation() {
    const Words streaming = sets({"adapt.when=streaming", "adapt.chunk_windows=2", "adapt.lr=0.01"});
    write("other.toml",
          "[adapt]\nwhen = \"streaming\"\nchunk_windows = 3\n[score]\nstride = 8\n[model]\nwindow = 64\n");
    for (const std::string command : {"adapt", "verify"}) {
      auto go = [=](const Words& more, const Words& text) {
        return command == "adapt" ? adapt(more, text) : verify(more, text)["sliding"];
      };
      auto plain = [=](const Words& more, const std::string& tokens = "200") {
        return go(streaming + more, {"--text", "a.txt", "--tokens", tokens});
      };
      add(command, "--text", [=] { EXPECT_EQ(plain({})["tokens"], 200); });
      add(command, "--shards", [=] {
        EXPECT_EQ(go(streaming, {"--shards", "shards/*.bin", "--tokens", "150"})["tokens"], 150);
      });
      add(command, "--tokens", [=] { EXPECT_EQ(plain({}, "120")["tokens"], 120); });
      add(command, "--set", [=] { EXPECT_NE(plain(sets({"adapt.lr=0.1"}))["nll"], plain({})["nll"]); });
      add(command, "--recipe", [=] {
        const auto json = go({"--recipe", "other.toml"}, {"--text", "a.txt", "--tokens", "200"});
        EXPECT_EQ(json["stride"], 8);
        EXPECT_EQ(json["window"], 32) << "the model's own";
      });
    }
    auto checks = [](const Words& more) {
      std::vector<std::string> names;
      const auto report = verify(more);
      for (const auto& c : report["checks"])
        names.push_back(c["check"].get<std::string>() + ": " + c["figures"].get<std::string>());
      return names;
    };
    add("verify", "--flips", [=] {
      EXPECT_EQ(checks({"--flips", "3"}).size(), checks({"--flips", "0"}).size() + 3);
    });
    add("verify", "--windows", [=] {
      EXPECT_NE(checks({"--windows", "1"})[3], checks({"--windows", "9"})[3]);
    });
    add("verify", "--places", [=] {
      const auto one = checks({"--places", "1"}), five = checks({"--places", "5"});
      EXPECT_EQ(one.size(), five.size()) << "says which places, not how many";
      EXPECT_NE(one.back(), five.back());
    });
  }

  void looking() {
    auto shown = [](const Words& more) {
      const auto json = json_of(Words{"recipes", "demo"} + more);
      return json["values"].is_object() ? json["values"].flatten() : json;
    };
    add("recipes", "--keys", [] {
      EXPECT_THAT(said({"recipes", "--keys"}).out, HasSubstr("model.vocab_size"));
    });
    add("recipes", "--set", [=] { EXPECT_NE(shown(sets({"train.steps=3"})), shown({})); });
    add("recipes", "--scale", [=] { EXPECT_NE(shown({"--scale", "tiny"}), shown({})); });
    add("recipes", "--seed", [=] { EXPECT_NE(shown({"--seed", "9"}), shown({})); });
    for (const std::string command : {"explain", "bench"}) {
      auto json = [=](const Words& more) {
        return json_of(Words{command, "demo"} + keys() +
                       (command == "bench" ? Words{"--repeats", "1"} : Words{}) + more);
      };
      add(command, "--set", [=] {
        const auto wide = said(Words{command, "demo"} + keys({"model.width=0"}));
        EXPECT_EQ(wide.code, 2);
        EXPECT_THAT(wide.err, HasSubstr("model.width"));
      });
      add(command, "--scale", [=] {
        EXPECT_THAT(said(Words{command, "demo", "--scale", "no"}).err, HasSubstr("--scale no"));
      });
      add(command, "--seed", [=] {
        EXPECT_FALSE(json({"--seed", "5"}).is_null());
      });  // changes no shape and no time
    }
    for (const Words& command : {Words{"explain", "demo"}, Words{"bench", "demo", "--repeats", "1"}})
      add(command[0], "--wide", [=] {
        auto widest = [&](const Words& more) {
          std::size_t most = 0;
          std::istringstream text(said(command + keys() + more).out);
          for (std::string line; std::getline(text, line);) most = std::max(most, line.size());
          return most;
        };
        EXPECT_GT(widest({"--wide"}), widest({}));
      });
    add("explain", "--measure", [=] {
      EXPECT_GT(json_of(Words{"explain", "demo"} + keys() + Words{"--measure"})["programs"][0]["seconds"]
                    .get<double>(),
                0);
      EXPECT_EQ(json_of(Words{"explain", "demo"} + keys())["programs"][0]["seconds"], 0);
    });
    add("bench", "--repeats", [=] {
      EXPECT_EQ(said(Words{"bench", "demo", "--repeats", "0"} + keys()).code, 2);
      EXPECT_EQ(said(Words{"bench", "demo", "--repeats", "2"} + keys()).code, 0);
    });
    add("bench", "--tune-products", [=] {
      EXPECT_THAT(
          said(Words{"bench", "demo", "--repeats", "1", "--tune-products", "x.inc", "--device", "cpu"} +
               keys())
              .err,
          HasSubstr("--tune-products x.inc: products are tuned on a GPU"));
    });
  }

  void text() {
    add("tokenizer train", "--out", [] {
      tokenizer({});
      EXPECT_TRUE(exists("t.model"));
    });
    add("tokenizer train", "--vocab-size", [] {
      EXPECT_EQ(tokenizer({"--vocab-size", "310"})["vocab_size"], 310);
    });
    auto print = [](const Words& more, const Words& files = {"b.jsonl"}) {
      return tokenizer(more, files)["fingerprint"];
    };
    add("tokenizer train", "--type", [=] {
      const Words demo = {"part.txt"};  // enough text for 400 pieces of either type
      EXPECT_NE(print({"--type", "unigram", "--vocab-size", "400"}, demo),
                print({"--type", "bpe", "--vocab-size", "400"}, demo));
    });
    add("tokenizer train", "--transform", [] {
      EXPECT_EQ(tokenizer({"--transform", "caseops"})["transform"], "caseops_lossless_v1");
    });
    add("tokenizer train", "--fuse-markers", [=] {
      EXPECT_NE(print({"--transform", "caseops", "--fuse-markers"}), print({"--transform", "caseops"}));
      EXPECT_EQ(said({"tokenizer", "train", "b.jsonl", "--out", "f.model", "--fuse-markers"}).code, 2);
    });
    add("tokenizer train", "--split-on", [=] {
      EXPECT_NE(print({"--split-on", "line"}, {"a.txt"}), print({"--split-on", "file"}, {"a.txt"}));
    });
    add("tokenizer train", "--field", [=] {
      EXPECT_NE(print({"--field", "body"}), print({"--field", "text"}));
    });
    add("tokenizer train", "--max-bytes", [=] { EXPECT_NE(print({"--max-bytes", "1000"}), print({})); });
    add("tokenizer train", "--coverage", [] {
      // A few characters are rare: with less than all of them covered they have no piece of their own.
      EXPECT_NE(tokenizer({"--coverage", "0.98"}, {"rare.txt"})["fingerprint"],
                tokenizer({"--coverage", "1"}, {"rare.txt"})["fingerprint"]);
    });
    add("tokenizer train", "--skip-bad-lines", [] {
      leaves_bad_lines_out({"tokenizer", "train", "bad.jsonl", "--out", "bad.model", "--vocab-size", "300"});
    });
    for (const std::string command : {"encode", "decode"}) {
      const std::string given = command == "encode" ? "a mole" : "900 901";
      auto out = [=](const Words& more, const std::string& input = "") {
        return fairway(*folder_, Words{"tokenizer", command, kTokenizer} + more, input).out;
      };
      add("tokenizer " + command, "--text", [=] { EXPECT_EQ(out({"--text", given}), out({}, given)); });
      add("tokenizer " + command, "--file", [=] {
        write("given.txt", given);
        EXPECT_EQ(out({"--file", "given.txt"}), out({}, given));
        EXPECT_NE(out({"--file", "given.txt"}), "");
      });
    }
    add("tokenizer encode", "--pieces", [] {
      EXPECT_THAT(said({"tokenizer", "encode", kTokenizer, "--text", "a mole", "--pieces"}).out,
                  HasSubstr("\t\xE2\x96\x81"));
    });
  }

  void data() {
    auto documents = [](const Json& json, const char* split) { return json[split]["documents"].get<int>(); };
    add("data build", "--tokenizer", [] {
      const auto other = said({"data", "build", "a.txt", "--tokenizer", "none.model", "--out", "s-none"});
      EXPECT_THAT(other.err, HasSubstr("none.model"));
      EXPECT_EQ(build("s-t", {})["tokenizer"]["vocab_size"], 1024);
    });
    add("data build", "--out", [] {
      build("s-o", {});
      EXPECT_TRUE(exists("s-o/manifest.json"));
    });
    add("data info", "--tokenizer", [] {  // beside no manifest nothing else says which id begins a document
      build("s-i", {});
      const Words info = {"data", "info", "alone.bin"};
      std::filesystem::copy_file(*folder_ / "s-i/fineweb_train_000000.bin", *folder_ / "alone.bin");
      EXPECT_TRUE(json_of(info)["documents"].is_null());
      EXPECT_EQ(json_of(info + Words{"--tokenizer", kTokenizer})["documents"], 1);
    });
    add("data build", "--split-on", [=] {
      EXPECT_EQ(documents(build("s-l", {"--split-on", "line"}), "train"), 120);
      EXPECT_EQ(documents(build("s-b", {"--split-on", "blank-line"}), "train"), 30);
      EXPECT_EQ(documents(build("s-f", {"--split-on", "file"}), "train"), 1);
    });
    add("data build", "--field", [] {
      EXPECT_NE(build("s-1", {"--field", "body"}, {"b.jsonl"})["train"]["text_bytes"],
                build("s-2", {"--field", "text"}, {"b.jsonl"})["train"]["text_bytes"]);
    });
    add("data build", "--min-document-bytes", [=] {
      EXPECT_LT(documents(build("s-m", {"--split-on", "blank-line", "--min-document-bytes", "500"}), "train"),
                30);
    });
    add("data build", "--skip-empty", [=] {
      write("empty.jsonl", "{\"text\": \"\"}\n{\"text\": \"a\"}\n");
      EXPECT_EQ(said({"data", "build", "empty.jsonl", "--tokenizer", kTokenizer, "--out", "s-e"}).code, 2);
      EXPECT_EQ(documents(build("s-e", {"--skip-empty"}, {"empty.jsonl"}), "train"), 1);
    });
    add("data build", "--skip-bad-lines", [] {
      leaves_bad_lines_out({"data", "build", "bad.jsonl", "--tokenizer", kTokenizer, "--out", "s-bad"});
    });
    add("data build", "--fuse-markers", [] {
      EXPECT_LT(build_caseops("s-fused", {"--fuse-markers"})["train"]["tokens"],
                build_caseops("s-unfused", {})["train"]["tokens"]);
      const Words plain = {"data", "build", "a.txt", "--tokenizer", kTokenizer, "--out", "s-plain"};
      EXPECT_EQ(said(plain + Words{"--fuse-markers"}).code, 2);
    });
    auto side_car = [](const Json& json) { return json["val"]["shards"][0].contains("side_car"); };
    add("data build", "--side-car", [=] {
      EXPECT_FALSE(side_car(build("s-alone", {"--validation"})));
      EXPECT_TRUE(side_car(build("s-side", {"--validation", "--side-car"})));
    });
    add("data build", "--no-side-car", [=] {
      EXPECT_TRUE(side_car(build_caseops("s-case", {"--validation"})));
      EXPECT_FALSE(side_car(build_caseops("s-bare", {"--validation", "--no-side-car"})));
    });
    add("data build", "--prefix", [] {
      build("s-p", {"--prefix", "mine"});
      EXPECT_TRUE(exists("s-p/mine_train_000000.bin"));
    });
    add("data build", "--shard-tokens", [] {
      const auto shards = build("s-n", {"--shard-tokens", "500"})["train"]["shards"];
      ASSERT_GT(shards.size(), 1u);
      EXPECT_EQ(shards[0]["tokens"], 500);
    });
    add("data build", "--shard-per-file", [] {
      EXPECT_EQ(
          build("s-q", {"--shard-per-file"}, {"a.txt", "b.jsonl", "tail.txt"})["train"]["shards"].size(), 3u);
      EXPECT_EQ(build("s-r", {}, {"a.txt", "b.jsonl", "tail.txt"})["train"]["shards"].size(), 1u);
    });
    add("data build", "--validation", [=] {
      const auto json = build("s-v", {"--validation"});
      EXPECT_EQ(documents(json, "train"), 0);
      EXPECT_EQ(documents(json, "val"), 1);
    });
    add("data build", "--val-every", [=] {
      EXPECT_EQ(documents(build("s-w", {"--split-on", "line", "--val-every", "10"}), "val"), 12);
    });
    add("data build", "--val-percent", [=] {
      EXPECT_EQ(documents(build("s-x", {"--split-on", "line", "--val-percent", "25"}), "val"), 30);
    });
  }

  void sweeps() {
    write("s.toml",
          "name = \"two\"\nbase = \"demo\"\nscale = \"tiny\"\nmetric = \"score.plain.loss\"\nseeds = [1]\n"
          "[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\noptim.beta1 = 0.5\n");
    auto sweep = [](const std::string& out, const Words& more) {
      return json_of(Words{"sweep", "s.toml", "--out", out} + keys({"train.steps=1"}) + more);
    };
    add("sweep", "--out", [=] {
      sweep("sw", {});
      EXPECT_TRUE(exists("sw/a/seed-1/result.json"));
      EXPECT_TRUE(exists("sw/sweep.json"));
    });
    add("sweep", "--set", [=] {
      EXPECT_THAT(sweep("sw-s", sets({"train.steps=2"}))["cells"].dump(), HasSubstr("finished"));
      EXPECT_THAT(file("sw-s/b/seed-1/recipe.toml"), HasSubstr("\nsteps = 2"));
    });
    add("sweep", "--scale", [=] {
      EXPECT_THAT(said({"sweep", "s.toml", "--scale", "no"}).err, HasSubstr("--scale no"));
    });
    add("sweep", "--seeds", [=] {
      const auto json = sweep("sw-2", {"--seeds", "3,4"});
      EXPECT_EQ(json["seeds"], (std::vector<int>{3, 4}));
      EXPECT_EQ(json["cells"].size(), 4u);
    });
    add("sweep", "--resume", [=] {
      sweep("sw-r", {});
      EXPECT_EQ(said(Words{"sweep", "s.toml", "--out", "sw-r"} + keys({"train.steps=1"})).code, 2);
      const auto again = sweep("sw-r", {"--resume"});
      for (const auto& cell : again["cells"]) EXPECT_EQ(cell["skipped"], true);
    });
    add("sweep", "--jobs", [=] {
      const auto json = sweep("sw-j", {"--jobs", "2", "--threads", "2"});
      EXPECT_EQ(json["failed"], false);
      EXPECT_EQ(said(Words{"sweep", "s.toml", "--jobs", "0"}).code, 2);
    });
  }

  std::map<std::string, Entry> entries_;
};

TEST_F(OptionEntries, EachOptionThatHelpListsHasOneAndDoesWhatItSays) {
  auto help = [](const Words& path) { return said(path + Words{"--help"}).out; };
  const auto commands = commands_of(help);
  ASSERT_GE(commands.size(), 20u);
  auto left = entries_;
  for (const auto& command : commands) {
    std::istringstream words(command);
    const Words path{std::istream_iterator<std::string>(words), {}};
    const auto options = listed(help(path));
    for (const auto& common : kCommon) EXPECT_TRUE(options.contains(common)) << command << " " << common;
    for (const auto& option : options) {
      if (kCommon.contains(option)) continue;
      const auto name = command + " " + option;
      SCOPED_TRACE(name);
      const auto entry = left.find(name);
      if (entry == left.end()) {
        ADD_FAILURE() << "the new option `fairway " << name << "` needs an entry in this file";
        continue;
      }
      entry->second();
      left.erase(entry);
    }
  }
  for (const auto& [name, entry] : left) ADD_FAILURE() << "no command has the option " << name;
}

using CommonOptions = Options;

TEST_F(CommonOptions, DoWhatTheySay) {
  const Words score = {"score", "m.fairway", "--text", "tail.txt"};
  EXPECT_TRUE(Json::parse(said(score + Words{"--json"}).out).contains("sliding"));
  EXPECT_THAT(said(score).out, HasSubstr("bits per byte"));
  const Words train_again = {"train", "demo", "--scale", "tiny"};
  EXPECT_NE(said(train_again + keys() + Words{"--out", "loud"}).err, "");
  EXPECT_EQ(said(train_again + keys() + Words{"--out", "quiet", "--quiet"}).err, "");
  EXPECT_EQ(json_of({"doctor", "--threads", "3"})["cpu"]["threads"], 3);
  EXPECT_EQ(json_of(score + Words{"--isa", "scalar"})["isa"], "scalar");
  EXPECT_EQ(json_of(score + Words{"--device", "cpu"})["sliding"]["verdict"], "valid");
  EXPECT_EQ(said(score + Words{"--device", "cuda:99"}).code, 2);
}

TEST_F(CommonOptions, VerifysExitCodeIsItsVerdict) {
  EXPECT_EQ(
      said({"verify", "m.fairway", "--text", "a.txt", "--tokens", "150", "--flips", "1", "--windows", "1"})
          .code,
      0);
  const auto broken = said(
      Words{"verify", "m.fairway", "--text", "a.txt", "--tokens", "150", "--flips", "1", "--windows", "1"} +
      sets({"adapt.when=before", "adapt.epochs=1"}));
  EXPECT_EQ(broken.code, 1) << broken.err;
  EXPECT_THAT(broken.out, HasSubstr("FAILED"));
}

TEST_F(CommonOptions, AFullOutputIsAFailure) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "SKIPPED: there is no /dev/full";
  for (const std::string more : {"", " --json"}) {
    const auto command = "cd '" + folder_->path().string() + "' && " FAIRWAY_PROGRAM " recipes demo" + more +
                         " > /dev/full 2> full.err";
    const int status = std::system(command.c_str());
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 1) << more;
    EXPECT_THAT(file("full.err"), HasSubstr("standard output cannot be written"));
  }
}

}  // namespace
}  // namespace fairway::test
