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

/// Every switch of the transformer family (docs/spec/model.md section 12). Plain data; `validate` checks it
/// as a whole.
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
  int encoder_layers() const { return layers / 2; }
  bool operator==(const ModelConfig&) const = default;
};

/// Checks what values mean together; the range of each alone is the recipe's (all sizes but the optional ones
/// are positive). Throws an input error that names the key, its value and what is allowed ("model.heads = 7
/// does not divide model.width = 512").
void validate(const ModelConfig& config);

}  // namespace fairway::model
