#pragma once
#include <vector>

#include "fairway/base/enum_names.h"

namespace fairway::model {

/// Of the MLP: max(x, 0)^2, or below zero (slope x)^2.
enum class Activation { relu_square, leaky_square };
constexpr auto names_of(Activation) { return base::names<Activation>("relu_square", "leaky_square"); }

enum class MatrixInit {
  orthogonal,
  uniform,  ///< +-1/sqrt(fan_in): the challenge's baseline
};
constexpr auto names_of(MatrixInit) { return base::names<MatrixInit>("orthogonal", "uniform"); }

/// A gate for each head of attention's output (docs/spec/caseops_model.md section 4.4).
enum class AttentionGate {
  none,
  sigmoid,  ///< starts half open: the sparse gate, and the dense one with as many channels as the stream
  twice,    ///< 2 sigmoid, starts open: the output gate of PR 1667
};
constexpr auto names_of(AttentionGate) { return base::names<AttentionGate>("none", "sigmoid", "twice"); }

/// What blocks of `parallel_layers` add to (docs/spec/caseops_model.md section 6).
enum class Parallel {
  sum,    ///< one stream: attention and MLP read the same normed input (PR 2143)
  lanes,  ///< two streams that both read and write, their mean at the end (PR 1855)
};
constexpr auto names_of(Parallel) { return base::names<Parallel>("sum", "lanes"); }

/// Every switch of the transformer family (docs/spec/model.md section 12, docs/spec/caseops_model.md). Plain
/// data; `validate` checks it as a whole.
struct ModelConfig {
  int vocab_size = 1024;
  int layers = 11;
  int width = 512;  ///< D
  int heads = 8;    ///< query heads; head size = width / heads
  int kv_heads = 4;
  double mlp_mult = 3.0;  ///< hidden = mlp_mult * width, rounded down
  Activation activation = Activation::leaky_square;
  float leaky_slope = 0.5f;
  int window = 2048;  ///< training and evaluation length S

  int rope_dims = 16;  ///< rotated dims of each head; head size for all
  float rope_base = 10000.0f;
  int rope_rescale_length =
      1024;              ///< windows longer than this use base * (S / length)^(d / (d - 2)); 0: never
  bool ln_scale = true;  ///< c_l = 1/sqrt(l + 1)
  float norm_eps = 1.1920929e-7f;  ///< 2^-23
  bool unet_skips = true;
  bool smear = true;
  int bigram_rows = 2048;  ///< 0: no bigram embedding
  int bigram_dim = 128;    ///< as wide as the stream: no projection
  int ve_dim = 128;        ///< 0: no value embedding; as wide as the values: no projection
  std::vector<int> ve_layers = {9, 10};
  std::vector<int> xsa_layers = {7, 8, 9, 10};
  float softcap = 30.0f;
  int memory_tokens = 0;  ///< learned vectors in the place of the first positions of every window (K)

  int smear_channels = 0;  ///< of a token's embedding, that open its gate for the token before (SmearGate of
                           ///< docs/spec/caseops_model.md section 2.1); 0: none
  std::vector<int> smear_closed;  ///< after these tokens the gate is shut (fused markers)
  int bos_id = 1;                 ///< begins a document: shuts the smear's gate; -1: no such token
  bool skip_gates = false;        ///< U-net skips are mixed into the stream, not added
  std::vector<int> loop_layers;   ///< neighbours that run loop_runs times, as a segment
  int loop_runs = 1;
  std::vector<int> parallel_layers;  ///< attention and MLP side by side
  Parallel parallel = Parallel::sum;
  AttentionGate attn_gate = AttentionGate::none;
  int attn_gate_channels = 12;   ///< of the block's normed input
  float attn_gate_scale = 1.0f;  ///< before the sigmoid
  bool documents = false;        ///< attention does not look across the beginning of a document

  float embed_init_std = 0.005f;
  float ve_init_std = 0.01f;
  float q_gain_init = 1.5f;
  MatrixInit matrix_init = MatrixInit::orthogonal;

  /// Model files from before the originals' shapes were followed here: the hidden width was rounded to the
  /// nearest, and embeddings had a projection at equal widths too. Not a recipe's key: has_older_shapes()
  /// knows such files by their tensors.
  bool older_shapes = false;

  int head_dim() const { return width / heads; }
  int kv_width() const { return kv_heads * head_dim(); }
  int mlp_width() const { return static_cast<int>(mlp_mult * width + (older_shapes ? 0.5 : 0.0)); }
  bool has_value_embedding() const { return ve_dim != 0 && !ve_layers.empty(); }
  bool projects_bigram() const { return bigram_rows != 0 && (bigram_dim != width || older_shapes); }
  bool projects_value_embedding() const {
    return has_value_embedding() && (ve_dim != kv_width() || older_shapes);
  }
  /// Blocks that are executed, a layer of the loop each time that it runs.
  int executions(bool looped = true) const {
    return layers + (looped ? (loop_runs - 1) * static_cast<int>(loop_layers.size()) : 0);
  }
  int encoder_slots(bool looped = true) const { return executions(looped) / 2; }
  int skip_rows() const { return unet_skips ? encoder_slots() : 0; }
  bool operator==(const ModelConfig&) const = default;
};

/// Checks what values mean together; the range of each alone is the recipe's (all sizes but the optional ones
/// are positive). Throws an input error that names the key, its value and what is allowed ("model.heads = 7
/// does not divide model.width = 512").
void validate(const ModelConfig& config);

}  // namespace fairway::model
