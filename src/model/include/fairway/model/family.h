#pragma once
// The transformer family, written once: parameters, initial values and the computation for each mode.
// Source: spec/model.md (PR 417, 398, 573, 518 and their base). Parameter names are the originals'.

#include "fairway/base/thread_pool.h"
#include "fairway/graph/builder.h"
#include "fairway/model/config.h"

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace fairway::model {

/// All parameters of a configuration: 26,993,756 for PR 518, 26,829,913 for PR 398 (spec section 13).
graph::ParameterLayout make_layout(const ModelConfig& config);

/// Are these tensors (elements by name) a model of this configuration in its older shapes only
/// (ModelConfig::older_shapes)? False where they fit as it is, and where they fit in neither form.
bool has_older_shapes(ModelConfig config, const std::map<std::string, std::int64_t>& elements);

/// Initial values (spec section 14): keyed by seed and parameter name, rounded once through bf16, the same on
/// every device and for any number of threads.
void initialise(graph::ParameterStore& store, const ModelConfig& config, std::uint64_t seed,
                base::ThreadPool& pool);

/// What a program is for.
enum class Mode {
  train,   ///< in: tokens, targets [B, S], weights [B, S]; out: loss [1] = sum of weights * nll, nll [B, S]
           ///< (both with z_loss); adds gradients
  score,   ///< in: tokens [B, S], targets [B, n]; out: nll [B, n] of the last n positions
  logits,  ///< in: tokens [B, S]; out: logits [B, S, V], soft-capped
  decode,  ///< in: tokens [B, S] (new ones), length [B] (tokens before them), previous [B] (the last of
           ///< those, -1: none); out: logits [B, V] of the last;
           ///< keeps key/value caches, the smear's predecessor as states
};

/// Passes over activations that a program does without: the same numbers but for roundings. What one device
/// gains from, another may not (exec::Form).
struct Fusion {
  /// With folded scales: the MLP's activation inside its products (ops/linear_square.h).
  bool activation = false;
  /// Heads made where the projection's sums leave the registers (ops/qkv_product.h).
  bool qkv = false;
  /// Before either: normed rows are never stored, the product multiplies its sums by scale / rms
  /// (ops/norm.h).
  bool norms = false;
  static constexpr Fusion all() { return {true, true, true}; }
};

/// The shape and the switches of one program.
struct BuildOptions {
  Mode mode = Mode::train;
  int rows = 1;              ///< B
  int length = 0;            ///< S; 0: the configuration's window
  int last = 0;              ///< score: n; 0: all positions
  int capacity = 0;          ///< decode: cache entries; 0: the window
  bool fold_scales = false;  ///< see RefreshOptions
  Fusion fuse = {};
  float z_loss = 0;        ///< train: weight of the squared normaliser (ops/cross_entropy.h)
  bool recompute = false;  ///< rebuild norms' and activations' outputs in backward instead of keeping them
  tensor::DType dtype = tensor::DType::f32;  ///< of activations; bf16: the store has a bf16 working copy
  /// Trainable parameters by name; empty: all of them in train mode. With folded scales, the matrix of a
  /// trainable scale gets a gradient too.
  std::function<bool(std::string_view)> trainable = {};
};

/// The program of a configuration. `layout` must be make_layout(config). With memory tokens the first K
/// positions of each row stand for no token: the caller gives their targets no weight and does not score
/// them; there is no decode program.
graph::Graph build(const ModelConfig& config, const graph::ParameterLayout& layout,
                   const BuildOptions& options);

/// What products read instead of the weights themselves.
struct RefreshOptions {
  tensor::DType dtype = tensor::DType::f32;  ///< of the store's working copy
  /// q of the straight-through row quantiser for a linear weight, by the parameter's name (31: int6, 15:
  /// int5; 0: none); empty: none. Parts of a packed matrix must agree. Tables are never quantised.
  std::function<int(std::string_view)> quantize;
  /// attn_scale and mlp_scale are multiplied into the rows of the projections before them, and the residual
  /// is added inside the product: no pass over activations is left of them.
  bool fold_scales = false;
  /// Unfold: the trainable parameters of the training program, as there.
  std::function<bool(std::string_view)> trainable;
};

/// The program "refresh" (or "refresh-quantised") that rewrites a store's working copy from its values. Run
/// it after the weights were set and after each update.
graph::Graph build_refresh(const ModelConfig& config, const graph::ParameterLayout& layout,
                           const RefreshOptions& options);

/// With folded scales: the program "unfold" that turns the gradients of folded weights into those of the
/// weights and of their scales; once per step, after the last micro-batch. `quantize` as in the refresh that
/// the gradients belong to.
graph::Graph build_unfold(const ModelConfig& config, const graph::ParameterLayout& layout,
                          const RefreshOptions& options);

/// The decode program's state that starts a new text when zeroed: what the smear saw last.
inline constexpr std::string_view previous_norm_state = "smear.previous";

/// Rotation angles of the first `length` positions: [length, rope_dims], cosines then sines (spec section 7).
/// `context` is the window that decides the rescaled base.
std::shared_ptr<const tensor::Array> rope_table(const ModelConfig& config, int length, int context,
                                                tensor::DType dtype);

}  // namespace fairway::model
