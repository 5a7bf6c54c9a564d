#pragma once
// A small trained model in a folder of its own, made through the public interface alone.

#include <fairway/fairway.h>

#include "support/folder.h"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace fairway::test {

/// What makes the demo a run of half a second.
inline TrainOptions quick_options() {
  TrainOptions options;
  options.scale = "tiny";
  options.threads = 2;
  options.set = {
      "model.vocab_size=320",    "model.layers=2",      "model.width=64",         "model.heads=2",
      "model.kv_heads=1",        "model.ve_layers=[1]", "model.xsa_layers=[1]",   "model.bigram_rows=128",
      "data.train_bytes=120000", "train.steps=20",      "train.warmdown_steps=8", "train.batch_tokens=1024",
      "train.validate_every=0",  "quant.level=3",       "score.tokens=500",       "generate.tokens=8"};
  return options;
}

using testing::Folder;

/// Trained once for each test program.
inline const std::string& model_path() {
  static const Folder folder;
  static const std::string path = [] {
    train("demo", folder("run"), quick_options());
    return folder("run/model.fairway");
  }();
  return path;
}

inline const std::string kText =
    "The Mole had been working very hard all the morning, spring-cleaning his little home. Na\xc3\xafve "
    "caf\xc3\xa9, 12 "
    "o'clock.";

/// The code of the Error that `body` throws; 0 without.
template <class F>
int code_of(F&& body) {
  try {
    body();
  } catch (const Error& e) {
    return std::string(e.what()).find('\n') == std::string::npos ? e.code() : -1;
  }
  return 0;
}

}  // namespace fairway::test
