#include "fairway/fairway.h"
#include "fairway/fairway_c.h"

#include <algorithm>
#include <cstring>

struct fairway_model {
  fairway::Model model;
};

namespace {

/// Terminated, and cut between characters.
void copy_text(std::string_view text, char* out, size_t capacity) {
  if (!out || capacity == 0) return;
  auto n = std::min(text.size(), capacity - 1);
  auto continues = [&](size_t i) { return (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80; };
  if (n < text.size())
    while (n > 0 && continues(n)) --n;
  std::memcpy(out, text.data(), n);
  out[n] = '\0';
}

/// No exception crosses the C boundary.
template <class F>
int guarded(char* error, size_t error_size, F&& body) {
  try {
    body();
    return 0;
  } catch (const fairway::Error& e) {
    copy_text(e.what(), error, error_size);
    return e.code();
  } catch (const std::exception& e) {
    copy_text(e.what(), error, error_size);
    return 1;
  } catch (...) {
    copy_text("unknown failure", error, error_size);
    return 1;
  }
}

}  // namespace

const char* fairway_version(void) { return "fairway " FAIRWAY_VERSION; }

int fairway_open(const char* path, int threads, fairway_model** model, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    *model = nullptr;
    fairway::ModelOptions options;
    options.threads = threads;
    *model = std::make_unique<fairway_model>(fairway_model{fairway::Model::open(path, options)}).release();
  });
}

void fairway_close(fairway_model* model) { std::unique_ptr<fairway_model>{model}; }

int fairway_vocab_size(const fairway_model* model) { return model->model.vocab_size(); }

int fairway_encode(const fairway_model* model, const char* text, size_t bytes, int32_t* ids, size_t capacity,
                   size_t* count, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    const auto tokens = model->model.encode({text, bytes});
    *count = tokens.size();
    std::copy_n(tokens.begin(), std::min(capacity, tokens.size()), ids);
  });
}

int fairway_score(const fairway_model* model, const char* text, size_t bytes, int stride,
                  fairway_score_result* result, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    const auto s = model->model.score({text, bytes}, {stride});
    *result = {s.loss, s.bits_per_byte, s.tokens, s.bytes, s.verdict == "valid"};
  });
}

int fairway_logits(const fairway_model* model, const int32_t* ids, size_t count, float* logits, char* error,
                   size_t error_size) {
  return guarded(error, error_size, [&] {
    const auto values = model->model.logits({ids, count});
    std::copy(values.begin(), values.end(), logits);
  });
}

int fairway_generate(const fairway_model* model, const char* prompt, int tokens, double temperature,
                     int top_k, uint64_t seed, char* text, size_t capacity, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    fairway::GenerateOptions options;
    options.tokens = tokens;
    options.temperature = temperature;
    options.top_k = top_k;
    options.seed = seed;
    copy_text(model->model.generate(prompt ? prompt : "", options), text, capacity);
  });
}
