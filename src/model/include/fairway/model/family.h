#pragma once
// The transformer family, written once: parameters, initial values and the computation for each mode.
// Source: docs/spec/model.md (PR 417, 398, 573, 518 and their base). Parameter names are the originals'.

#include "fairway/base/thread_pool.h"
#include "fairway/graph/builder.h"
#include "fairway/model/config.h"

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace fairway::model {

/// All parameters of a configuration: 26,993,756 for PR 518, 26,829,913 for PR 398
/// (docs/spec/model.md section 13).
graph::ParameterLayout make_layout(const ModelConfig& config);

/// Are these tensors (elements by name) a model of this configuration in its older shapes only
/// (ModelConfig::older_shapes)? False where they fit as it is, and where they fit in neither form.
bool has_older_shapes(ModelConfig config, const std::map<std::string, std::int64_t>& elements);

/// Initial values (docs/spec/model.md section 14): keyed by seed and parameter name, rounded once through
/// bf16, the same on every device and for any number of threads.
void initialise(graph::ParameterStore& store, std::uint64_t seed, base::ThreadPool& pool);

/// How a block's two branches stand to each other (docs/spec/caseops_model.md section 6).
enum class Topology : std::uint8_t {
  sequential,  ///< the MLP reads what attention added
  sum,         ///< both read the same
  lanes,       ///< attention reads the first of two streams, the MLP the second; both write both
};

/// One run of a layer. A layer that runs three times is three slots; where it stands and whose weights it has
/// are then different things.
struct Slot {
  int layer = 0;       ///< whose weights, switches and value embedding
  int depth = 0;       ///< its norms are scaled by 1/sqrt(depth + 1) (ModelConfig::ln_scale)
  bool last = false;   ///< nothing but the head reads it: only what is scored is computed
  bool saved = false;  ///< its output goes on the stack of U-net skips ...
  int skip = -1;       ///< ... from where another takes it, times this row of skip_weights; -1: takes none
  std::string cache;   ///< of its keys and values when decoding
  Topology topology = Topology::sequential;
};
/// The configuration's, in order: the layers, those of the loop (if it is on) as often as they run; the first
/// half saves, the second takes (docs/spec/caseops_model.md section 3).
std::vector<Slot> execution_slots(const ModelConfig& config, bool looped = true);

/// What a program is for. With ModelConfig::documents all but decode also read segments [B, S] i32: the first
/// position that attention sees from each.
enum class Mode {
  train,   ///< in: tokens, targets [B, S], weights [B, S]; out: loss [1] = sum of weights * nll, nll [B, S]
           ///< (both with z_loss); adds gradients
  score,   ///< in: tokens [B, S], targets [B, n]; out: nll [B, n] of the last n positions
  logits,  ///< in: tokens [B, S]; out: logits [B, S, V], soft-capped
  decode,  ///< in: tokens [B, S] (new ones), length [B] (tokens before them), previous [B] (the last of
           ///< those, -1: none); out: logits [B, V] of the last;
           ///< keeps key/value caches, the smear's predecessor as states
  calibrate,  ///< in: tokens [B, S]; out: for each matrix W that multiplies rows x the Hessian x^T x of its
              ///< input, as hessian_of(W) [c, c]: summed over rows and over the runs of its layer
              ///< (docs/spec/caseops_quantization.md section 2)
};
/// Its name in a calibration program; matrices that are packed together have one.
inline std::string hessian_of(std::string_view matrix) { return "hessian." + std::string(matrix); }

/// The shape and the switches of one program.
struct BuildOptions {
  Mode mode = Mode::train;
  int rows = 1;      ///< B
  int length = 0;    ///< S; 0: the configuration's window
  int last = 0;      ///< score: n; 0: all positions
  int capacity = 0;  ///< decode: cache entries; 0: the window
  float z_loss = 0;  ///< train: weight of the squared normaliser (ops/cross_entropy.h)
  tensor::DType dtype = tensor::DType::f32;  ///< of activations; bf16: the store has compute weights in bf16
  graph::Passes passes = {};                 ///< rewrite the recording for a device
  /// Trainable parameters by name; empty: all of them in train mode.
  std::function<bool(std::string_view)> trainable = {};
  bool looped = true;            ///< false: layers of the loop run once (training before it is switched on)
  std::vector<Slot> slots = {};  ///< empty: execution_slots
};

/// The program of a configuration. `layout` must be make_layout(config). With memory tokens the first K
/// positions of each row stand for no token: the caller gives their targets no weight and does not score
/// them; there is no decode program.
graph::Graph build(const ModelConfig& config, const graph::ParameterLayout& layout,
                   const BuildOptions& options);

/// The decode program's state that starts a new text when zeroed: what the smear saw last.
inline constexpr std::string_view previous_norm_state = "smear.previous";

/// Rotation angles of the first `length` positions: [length, rope_dims], cosines then sines
/// (docs/spec/model.md section 7). `context` is the window that decides the rescaled base.
std::shared_ptr<const tensor::Array> rope_table(const ModelConfig& config, int length, int context,
                                                tensor::DType dtype);

}  // namespace fairway::model
