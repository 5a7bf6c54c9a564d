#pragma once
// The transformer family, written once: parameters, initial values and the computation for each mode.
// Source: spec/model.md (PR 417, 398, 573, 518 and their base). Parameter names are the originals'.

#include "fairway/base/thread_pool.h"
#include "fairway/graph/builder.h"
#include "fairway/model/config.h"

#include <functional>
#include <string_view>

namespace fairway::model {

/// All parameters of a configuration: 26,993,756 for PR 518, 26,829,913 for PR 398 (spec section 13).
graph::ParameterLayout make_layout(const ModelConfig& config);

/// Initial values (spec section 14): keyed by seed and parameter name, rounded once through bf16, the same on
/// every device and for any number of threads.
void initialise(graph::ParameterStore& store, const ModelConfig& config, std::uint64_t seed,
                base::ThreadPool& pool);

/// What a program is for.
enum class Mode {
  train,   ///< in: tokens, targets [B, S], weights [B, S]; out: loss [1] = sum of weights * nll, nll [B, S];
           ///< adds gradients
  score,   ///< in: tokens [B, S], targets [B, n]; out: nll [B, n] of the last n positions
  logits,  ///< in: tokens [B, S]; out: logits [B, S, V], soft-capped
  decode,  ///< in: tokens [B, S] (new ones), length [B] (tokens before them), previous [B] (the last of
           ///< those, -1: none); out: logits [B, V] of the last;
           ///< keeps key/value caches, the smear's predecessor as states
};

/// The shape and the switches of one program.
struct BuildOptions {
  Mode mode = Mode::train;
  int rows = 1;      ///< B
  int length = 0;    ///< S; 0: the configuration's window
  int last = 0;      ///< score: n; 0: all positions
  int capacity = 0;  ///< decode: cache entries; 0: the window
  int fake_quantize =
      0;  ///< q of the straight-through row quantiser on every linear weight (31: int6); 0: none
  bool recompute = false;  ///< rebuild norms' and activations' outputs in backward instead of keeping them
  tensor::DType dtype = tensor::DType::f32;
  /// Trainable parameters by name; empty: all of them in train mode.
  std::function<bool(std::string_view)> trainable;
};

/// The program of a configuration. `layout` must be make_layout(config).
graph::Graph build(const ModelConfig& config, const graph::ParameterLayout& layout,
                   const BuildOptions& options);

/// The decode program's state that starts a new text when zeroed: what the smear saw last.
inline constexpr std::string_view previous_norm_state = "smear.previous";

/// Rotation angles of the first `length` positions: [length, rope_dims], cosines then sines (spec section 7).
/// `context` is the window that decides the rescaled base.
std::shared_ptr<const tensor::Array> rope_table(const ModelConfig& config, int length, int context,
                                                tensor::DType dtype);

}  // namespace fairway::model
