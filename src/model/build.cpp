// The forward pass of the family (spec/model.md section 2), recorded for one program.

#include "fairway/model/family.h"

#include "fairway/ops/activation.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/cross_entropy.h"
#include "fairway/ops/embedding.h"
#include "fairway/ops/linear_square.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/norm.h"
#include "fairway/ops/overwrite_head.h"
#include "fairway/ops/qkv_product.h"
#include "fairway/ops/residual.h"
#include "folding.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace fairway::model {

using graph::absent;
using graph::ValueId;
using tensor::DType;
using tensor::Meta;

namespace {

class FamilyBuilder {
 public:
  FamilyBuilder(const ModelConfig& config, const graph::ParameterLayout& layout, const BuildOptions& options)
      : c_(config),
        o_(options),
        b_(program_name(options), layout, options.dtype, trainable_of(options)),
        B_(options.rows),
        S_(options.length ? options.length : config.window) {
    shape_ = {c_.heads, c_.kv_heads, c_.head_dim()};
  }

  graph::Graph run() {
    tokens_ = b_.input("tokens", {DType::i32, {B_, S_}});
    if (decoding()) length_ = b_.input("length", {DType::i32, {B_}});
    // Windows restart at position 0; the rescaled base follows the window, not the cache's capacity.
    const int positions = decoding() ? capacity() : S_;
    rope_ = b_.constant("rope", rope_table(c_, positions, decoding() ? c_.window : S_, b_.wide()));
    const auto x0 = input_stage();
    const auto u = blocks(x0);
    head(u);
    return b_.finish();
  }

 private:
  static std::string program_name(const BuildOptions& o) {
    switch (o.mode) {
      case Mode::train:
        return "train";
      case Mode::score:
        return o.last ? fmt::format("score-last-{}", o.last) : "score";
      case Mode::logits:
        return "logits";
      default:
        return fmt::format("decode-{}", o.length);
    }
  }
  static std::function<bool(std::string_view)> trainable_of(const BuildOptions& o) {
    if (o.mode != Mode::train) return {};
    if (!o.trainable) return [](std::string_view) { return true; };
    if (!o.fold_scales) return o.trainable;
    // A folded scale's gradient is made of its matrix's: cheaper than a pass over activations even where the
    // matrix itself is frozen.
    return [trains = o.trainable](std::string_view name) {
      if (trains(name)) return true;
      const auto scale = folded_scale(name);
      return !scale.empty() && trains(scale);
    };
  }
  bool decoding() const { return o_.mode == Mode::decode; }
  int capacity() const { return o_.capacity ? o_.capacity : c_.window; }
  int scored() const { return o_.mode == Mode::score && o_.last && o_.last < S_ ? o_.last : S_; }

  ValueId rows_of(const std::string& table, ValueId index) {
    const auto narrow = o_.dtype == DType::bf16 ? DType::bf16 : DType::f32;
    return b_.op1<ops::Gather>({b_.parameter(table), index}, narrow);
  }
  ValueId keep_or_recompute(ValueId v) {
    if (o_.recompute) b_.mark_recompute(v);
    return v;
  }

  ValueId input_stage() {
    b_.scope("input");
    auto e = rows_of("tok_emb.weight", tokens_);
    if (c_.bigram_rows) {
      const auto previous = decoding() ? b_.input("previous", {DType::i32, {B_}}) : absent;
      const auto index = b_.op1<ops::BigramIndex>({tokens_, previous}, c_.bigram_rows);
      auto rows = rows_of("bigram.embed.weight", index);
      if (c_.projects_bigram()) rows = b_.linear(rows, b_.working("bigram.proj.weight"));
      e = b_.op1<ops::ScaledResidual>({e, rows, b_.parameter("bigram.scale")});
    }
    if (c_.memory_tokens) e = b_.op1<ops::OverwriteHead>({e, b_.parameter("memory_tokens")});
    auto n = b_.op1<ops::RmsNorm>({e}, 1.0f, c_.norm_eps);
    if (c_.smear) {
      const auto previous =
          decoding() ? b_.state(std::string(previous_norm_state), {o_.dtype, {B_, c_.width}}) : absent;
      const auto u = b_.op1<ops::Smear>({n, b_.parameter("smear.gate"), previous});
      if (decoding()) b_.update_state(previous, last_column(n));
      n = u;
    }
    if (c_.has_value_embedding()) {
      b_.scope("value_embedding");
      ve_ = rows_of("ve_shared.embed.weight", tokens_);
      if (c_.projects_value_embedding()) ve_ = b_.linear(ve_, b_.working("ve_shared.proj.weight"));
    }
    return n;
  }

  /// The last position of each row of [B, S] or [B, S, D].
  ValueId last_column(ValueId v) {
    if (S_ == 1) return v;
    const auto shape = b_.meta(v).shape;
    const auto cube = b_.reshape(v, {B_, S_, shape.elements() / (B_ * S_)});
    return b_.op1<ops::TakeLast>({cube}, 1);
  }

  /// What a layer of the second half gets from one of the first: its output, times weights per channel.
  struct Skip {
    ValueId from = absent, weights = absent;
  };

  ValueId blocks(ValueId x0) {
    const int encoder = c_.unet_skips ? c_.encoder_layers() : 0;
    std::vector<ValueId> stack;
    auto u = x0;
    for (int l = 0; l < c_.layers; ++l) {
      b_.scope(fmt::format("blocks.{}", l));
      Skip skip;
      if (l >= encoder && !stack.empty()) {
        skip = {stack.back(),
                b_.slice(b_.parameter("skip_weights"), std::int64_t{l - encoder} * c_.width, {c_.width})};
        stack.pop_back();
      }
      u = block(l, u, x0, skip);
      if (l < encoder) stack.push_back(u);
    }
    return u;
  }

  ValueId block(int l, ValueId u, ValueId x0, const Skip& skip) {
    const auto name = fmt::format("blocks.{}.", l);
    const float scale = c_.ln_scale ? 1.0f / std::sqrt(static_cast<float>(l + 1)) : 1.0f;
    // Only what is scored is computed in the last layer: all keys and values, the last n queries, their MLP.
    const bool narrow = l == c_.layers - 1 && scored() < S_;

    const auto mix = b_.parameter(name + "resid_mix");
    const bool deferred = o_.fuse.qkv && o_.fuse.norms;
    const auto mixed = skip.from == absent ? b_.op<ops::MixNorm>({u, x0, mix}, scale, c_.norm_eps, deferred)
                                           : b_.op<ops::MixNorm>({u, x0, mix, skip.from, skip.weights}, scale,
                                                                 c_.norm_eps, deferred, true);
    const auto residual = narrow ? b_.op1<ops::TakeLast>({mixed[0]}, scored()) : mixed[0];
    const auto heads = attention(l, name, mixed, scale, narrow);
    const auto out = b_.working(name + "attn.proj.weight");
    if (o_.fold_scales) {
      const auto sum = b_.op<ops::LinearAdd>({heads, out, residual});
      if (o_.fuse.activation) return fused_mlp(name, sum[0], sum[1], scale);
      return mlp(name, sum[0], b_.op1<ops::RmsNorm>({sum[0]}, scale, c_.norm_eps));
    }
    const auto middle = b_.op<ops::ResidualNorm>(
        {residual, b_.linear(heads, out), b_.parameter(name + "attn_scale")}, scale, c_.norm_eps);
    return mlp(name, middle[0], middle[1]);
  }

  float slope() const { return c_.activation == Activation::relu_square ? 0.0f : c_.leaky_slope; }

  /// The MLP whose activation, and norm where it is deferred, cost no pass of their own (linear_square.h).
  ValueId fused_mlp(const std::string& name, ValueId sum, ValueId squares, float scale) {
    const auto up = b_.working(name + "mlp.fc.weight"), down = b_.working(name + "mlp.proj.weight");
    const bool deferred = o_.fuse.norms;
    const auto norm = b_.op<ops::RmsNorm>({sum, deferred ? squares : absent}, scale, c_.norm_eps, deferred);
    const auto r = deferred ? norm[1] : absent;
    const auto normed = deferred ? norm[0] : keep_or_recompute(norm[0]);
    const auto pair = deferred ? b_.op<ops::LinearSquare>({normed, up, sum, r}, slope(), scale)
                               : b_.op<ops::LinearSquare>({normed, up}, slope());
    // Rebuilt from the hidden rows, the activation is cheaper than by the product.
    const auto active =
        o_.recompute ? keep_or_recompute(b_.op1<ops::LeakySquare>({pair[1]}, slope())) : pair[0];
    const auto hidden = o_.mode == Mode::train ? pair[1] : absent;
    return b_.op1<ops::SquareLinearAdd>({hidden, active, down, sum, r}, slope(), deferred ? scale : 1.0f);
  }

  ValueId mlp(const std::string& name, ValueId sum, ValueId normed) {
    const auto hidden = b_.linear(keep_or_recompute(normed), b_.working(name + "mlp.fc.weight"));
    const auto active = keep_or_recompute(b_.op1<ops::LeakySquare>({hidden}, slope()));
    const auto out = b_.working(name + "mlp.proj.weight");
    if (o_.fold_scales) return b_.op1<ops::LinearAdd>({active, out, sum});
    return b_.op1<ops::ScaledResidual>({sum, b_.linear(active, out), b_.parameter(name + "mlp_scale")});
  }

  /// Queries, keys and values from the outputs of a MixNorm: rows m, the same normed, 1 / rms.
  std::vector<ValueId> heads(int l, const std::string& name, const std::vector<ValueId>& mixed, float scale) {
    const auto ve_slot = std::find(c_.ve_layers.begin(), c_.ve_layers.end(), l);
    const bool with_ve = c_.ve_dim && ve_slot != c_.ve_layers.end();
    std::vector<ValueId> in = {b_.parameter(name + "attn.q_gain"), rope_, length_};
    if (with_ve) {
      const auto slot = ve_slot - c_.ve_layers.begin();
      in.insert(in.end(), {ve_, b_.parameter("ve_shared.scale"),
                           b_.parameter(fmt::format("ve_layer_scales.{}", slot))});
    } else {
      in.insert(in.end(), 3, absent);
    }
    const auto w = b_.working(name + "attn.qkv.weight");
    const bool deferred = o_.fuse.qkv && o_.fuse.norms;
    const auto y = deferred ? mixed[1] : keep_or_recompute(mixed[1]);
    if (!o_.fuse.qkv) {
      in.insert(in.begin(), b_.linear(y, w));
      return b_.apply(std::make_shared<const ops::QkvPrepare>(shape_, c_.rope_dims, c_.norm_eps, with_ve),
                      std::move(in));
    }
    in.insert(in.begin(), {y, w});
    if (deferred) in.insert(in.end(), {mixed[0], mixed[2]});
    return b_.apply(std::make_shared<const ops::QkvProduct>(shape_, c_.rope_dims, c_.norm_eps, with_ve,
                                                            deferred ? std::optional(scale) : std::nullopt),
                    std::move(in));
  }

  ValueId attention(int l, const std::string& name, const std::vector<ValueId>& mixed, float scale,
                    bool narrow) {
    const auto p = heads(l, name, mixed, scale);
    const int queries = narrow ? scored() : S_;
    auto q = p[0];
    if (narrow)
      q = b_.reshape(b_.op1<ops::TakeLast>({b_.reshape(q, {B_, S_, c_.width})}, queries),
                     {B_, queries, shape_.heads, shape_.head_dim});
    auto o = decoding() ? decode_attention(name, q, p[1], p[2])
                        : b_.op1<ops::Attention>({q, p[1], p[2], absent}, shape_, true);
    if (std::count(c_.xsa_layers.begin(), c_.xsa_layers.end(), l)) o = b_.op1<ops::Xsa>({o, p[2]}, shape_);
    return b_.reshape(o, {B_, queries, c_.width});
  }

  ValueId decode_attention(const std::string& name, ValueId q, ValueId k, ValueId v) {
    const Meta cache{o_.dtype, {B_, capacity(), shape_.kv_heads, shape_.head_dim}};
    const auto keys = b_.state(name + "k_cache", cache), values = b_.state(name + "v_cache", cache);
    return b_
        .apply_stateful(std::make_shared<const ops::AttentionDecode>(shape_),
                        {q, k, v, length_, keys, values})
        .front();
  }

  void head(ValueId u) {
    b_.scope("head");
    if (decoding()) u = last_column(u);
    const int n = decoding() ? 1 : scored();
    const auto f = b_.op1<ops::RmsNorm>({u}, 1.0f, c_.norm_eps);
    const auto z = b_.linear(f, b_.working("tok_emb.weight"));
    if (o_.mode == Mode::logits || decoding()) {
      b_.output(b_.op1<ops::Softcap>({z}, c_.softcap), "logits");
      return;
    }
    const auto targets = b_.input("targets", {DType::i32, {B_, n}});
    const float z_loss = o_.mode == Mode::train ? o_.z_loss : 0.0f;
    const auto nll = b_.op1<ops::SoftcapCrossEntropy>({z, targets}, c_.softcap, z_loss);
    b_.output(nll, "nll");
    if (o_.mode == Mode::score) return;
    const auto weights = b_.input("weights", {b_.wide(), {B_, n}});
    const auto loss = b_.op1<ops::WeightedSum>({nll, weights});
    b_.output(loss, "loss");
    b_.backward(loss);
  }

  const ModelConfig& c_;
  const BuildOptions& o_;
  graph::Builder b_;
  const int B_, S_;
  ops::HeadShape shape_;
  ValueId tokens_ = absent, length_ = absent, rope_ = absent, ve_ = absent;
};

}  // namespace

std::shared_ptr<const tensor::Array> rope_table(const ModelConfig& c, int length, int context, DType dtype) {
  const int half = c.rope_dims / 2;
  double base = c.rope_base;
  if (c.rope_rescale_length > 0 && context > c.rope_rescale_length && c.rope_dims > 2)
    base *= std::pow(static_cast<double>(context) / c.rope_rescale_length, c.rope_dims / (c.rope_dims - 2.0));
  auto table = std::make_shared<tensor::Array>(Meta{dtype, {length, c.rope_dims}});
  auto store = [&](std::size_t i, double value) {
    if (dtype == DType::f64)
      table->span<double>()[i] = value;
    else
      table->span<float>()[i] = static_cast<float>(value);
  };
  for (int t = 0; t < length; ++t)
    for (int i = 0; i < half; ++i) {
      const double angle = t * std::pow(base, -2.0 * i / c.rope_dims);
      const auto row = static_cast<std::size_t>(t) * static_cast<std::size_t>(c.rope_dims);
      store(row + static_cast<std::size_t>(i), std::cos(angle));
      store(row + static_cast<std::size_t>(half + i), std::sin(angle));
    }
  return table;
}

graph::Graph build(const ModelConfig& config, const graph::ParameterLayout& layout,
                   const BuildOptions& options) {
  base::check(options.rows >= 1, "rows = {}", options.rows);
  base::check(options.mode != Mode::decode || config.memory_tokens == 0, "decoding with memory tokens");
  return FamilyBuilder(config, layout, options).run();
}

}  // namespace fairway::model
