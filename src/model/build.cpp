// The forward pass of the family (docs/spec/model.md section 2, docs/spec/caseops_model.md), recorded for one
// program.

#include "fairway/model/family.h"

#include "fairway/ops/activation.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/cross_entropy.h"
#include "fairway/ops/embedding.h"
#include "fairway/ops/gates.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/memory_tokens.h"
#include "fairway/ops/norm.h"
#include "fairway/ops/qkv.h"
#include "fairway/ops/residual.h"
#include "fairway/ops/two_lanes.h"

#include <algorithm>
#include <cmath>
#include <utility>

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
        slots_(options.slots.empty() ? execution_slots(config, options.looped) : options.slots),
        b_(program_name(options), layout, options.dtype, trainable_of(options)),
        B_(options.rows),
        S_(options.length ? options.length : config.window) {
    shape_ = {c_.heads, c_.kv_heads, c_.head_dim()};
  }

  graph::Graph run() {
    tokens_ = b_.input("tokens", {DType::i32, {B_, S_}});
    if (decoding()) length_ = b_.input("length", {DType::i32, {B_}});
    if (decoding() && (c_.bigram_rows || c_.smear_channels))
      previous_ = b_.input("previous", {DType::i32, {B_}});
    if (c_.documents && !decoding()) segments_ = b_.input("segments", {DType::i32, {B_, S_}});
    // Windows and packed documents restart at position 0, so that no token looks back further than the
    // window: the rescaled base follows it, not a packed row's length or the cache's capacity.
    const int positions = decoding() ? capacity() : S_;
    const int context = decoding() ? c_.window : std::min(S_, c_.window);
    rope_ = b_.constant("rope", rope_table(c_, positions, context, b_.wide()));
    const auto x0 = input_stage();
    const auto loss = head(blocks(x0));
    for (const auto& [matrix, hessian] : hessians_) b_.output(hessian, hessian_of(matrix));
    return b_.finish(o_.passes, loss);
  }

 private:
  static std::string program_name(const BuildOptions& o) {
    switch (o.mode) {
      case Mode::train:
        return o.looped ? "train" : "train-unlooped";
      case Mode::score:
        return o.last ? fmt::format("score-last-{}", o.last) : "score";
      case Mode::logits:
        return "logits";
      case Mode::calibrate:
        return "calibrate";
      default:
        return fmt::format("decode-{}", o.length);
    }
  }
  static std::function<bool(std::string_view)> trainable_of(const BuildOptions& o) {
    if (o.mode != Mode::train) return {};
    if (!o.trainable) return [](std::string_view) { return true; };
    return o.trainable;
  }
  bool decoding() const { return o_.mode == Mode::decode; }
  int capacity() const { return o_.capacity ? o_.capacity : c_.window; }
  int scored() const { return o_.mode == Mode::score && o_.last && o_.last < S_ ? o_.last : S_; }

  ValueId rows_of(const std::string& table, ValueId index) {
    const auto narrow = o_.dtype == DType::bf16 ? DType::bf16 : DType::f32;
    return b_.op1<ops::Gather>({b_.parameter(table), index}, narrow);
  }
  /// x W^T, of the weight as products read it.
  ValueId linear(ValueId x, const std::string& weight) {
    if (o_.mode == Mode::calibrate) {
      auto& sum = hessians_.try_emplace(weight, absent).first->second;
      const auto hessian = b_.op1<ops::Matmul>({x, x}, true, false, ops::ProductResult::wide);
      sum = sum == absent ? hessian : b_.op1<ops::Add>({sum, hessian});
    }
    return b_.linear(x, b_.compute_weight(weight));
  }

  ValueId input_stage() {
    b_.scope("input");
    auto e = rows_of("tok_emb.weight", tokens_);
    if (c_.bigram_rows) {
      const auto index = b_.op1<ops::BigramIndex>({tokens_, previous_}, c_.bigram_rows);
      auto rows = rows_of("bigram.embed.weight", index);
      if (c_.projects_bigram()) rows = linear(rows, "bigram.proj.weight");
      e = b_.op1<ops::ScaledResidual>({e, rows, b_.parameter("bigram.scale")});
    }
    if (c_.smear_channels) e = token_smear(e);
    if (c_.memory_tokens) e = b_.op1<ops::MemoryTokens>({e, b_.parameter("memory_tokens")});
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
      if (c_.projects_value_embedding()) ve_ = linear(ve_, "ve_shared.proj.weight");
    }
    return n;
  }

  /// Of raw embeddings (docs/spec/caseops_model.md section 2.1).
  ValueId token_smear(ValueId e) {
    const auto before =
        decoding() ? b_.state(std::string(previous_norm_state), {o_.dtype, {B_, c_.width}}) : absent;
    const auto mixed = b_.op1<ops::TokenSmear>(
        {e, tokens_, b_.parameter("smear_gate.weight"), b_.parameter("smear_lambda"), before, previous_},
        c_.bos_id, c_.smear_closed);
    if (decoding()) b_.update_state(before, last_column(e));
    return mixed;
  }

  /// The last position of each row of [B, S] or [B, S, D].
  ValueId last_column(ValueId v) {
    if (S_ == 1) return v;
    const auto shape = b_.meta(v).shape;
    const auto cube = b_.reshape(v, {B_, S_, shape.elements() / (B_ * S_)});
    return b_.op1<ops::TakeLast>({cube}, 1);
  }

  /// What flows from block to block: one stream, or two from the first block with lanes on.
  struct Stream {
    ValueId x, second = absent;
  };

  ValueId blocks(ValueId x0) {
    std::vector<ValueId> saved;
    Stream stream{x0};
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const auto& slot = slots_[i];
      b_.scope(fmt::format("blocks.{}", slot.layer));
      ValueId skip = absent;
      if (slot.skip >= 0) {
        base::check(!saved.empty(), "slot {} takes a skip that no slot saved", i);
        skip = saved.back();
        saved.pop_back();
      }
      stream = block(slot, stream, x0, skip);
      if (slot.saved) saved.push_back(stream.x);
    }
    return stream.x;
  }

  /// With x the mix of the stream, the first activations x0 and a skip, c = 1/sqrt(depth + 1), s_a and s_m
  /// per channel (docs/spec/model.md section 5):
  ///   x1 = x + s_a . Proj(Attention(c norm(x))),  x2 = x1 + s_m . MLP(c norm(x1))
  /// The two other topologies are those of docs/spec/caseops_model.md section 6.
  Stream block(const Slot& slot, Stream u, ValueId x0, ValueId skip) {
    const auto name = fmt::format("blocks.{}.", slot.layer);
    const float c = c_.ln_scale ? 1.0f / std::sqrt(static_cast<float>(slot.depth + 1)) : 1.0f;
    const bool lanes = slot.topology == Topology::lanes;
    if (lanes && u.second == absent) u.second = u.x;  // before the skip, which is the first lane's
    if (skip != absent && (c_.skip_gates || lanes)) u.x = merged(slot, u.x, std::exchange(skip, absent));
    const auto [x, normed] = mix(slot, name, u.x, x0, skip, c);
    // Only what is scored is computed in the last layer: all keys and values, the last n queries, their MLP.
    const bool narrow = slot.last && scored() < S_;
    const auto kept = [&](ValueId v) { return narrow ? b_.op1<ops::TakeLast>({v}, scored()) : v; };
    const auto attended = linear(attention(slot, name, normed, narrow), name + "attn.proj.weight");
    if (lanes) {
      const auto second = kept(u.second);
      const auto hidden = mlp(name, b_.op1<ops::RmsNorm>({second}, c, c_.norm_eps));
      return write_lanes(slot, name, {kept(u.x), second}, attended, hidden);
    }
    const auto x1 = add_scaled(kept(x), attended, name + "attn_scale");
    const auto read =
        slot.topology == Topology::sum ? kept(normed) : b_.op1<ops::RmsNorm>({x1}, c, c_.norm_eps);
    return {add_scaled(x1, mlp(name, read), name + "mlp_scale")};
  }

  /// Row k of a parameter of skips.
  ValueId of_skip(const Slot& slot, const char* parameter) {
    return b_.slice(b_.parameter(parameter), std::int64_t{slot.skip} * c_.width, {c_.width});
  }
  /// The stream with a skip in it: behind its gate, or added.
  ValueId merged(const Slot& slot, ValueId u, ValueId skip) {
    const auto k = of_skip(slot, "skip_weights");
    if (!c_.skip_gates) return b_.op1<ops::ScaledResidual>({u, skip, k});
    return b_.op1<ops::GatedSkip>({u, skip, k, of_skip(slot, "skip_gates")});
  }

  Stream write_lanes(const Slot& slot, const std::string& name, Stream u, ValueId attended, ValueId hidden) {
    const auto rho = b_.slice(b_.parameter("parallel_resid_lambdas"), std::int64_t{slot.layer} * 2, {2});
    const auto post = b_.slice(b_.parameter("parallel_post_lambdas"), std::int64_t{slot.layer} * 4, {2, 2});
    const auto out = b_.op<ops::TwoLanes>({u.x, u.second, attended, hidden, b_.parameter(name + "attn_scale"),
                                           b_.parameter(name + "mlp_scale"), rho, post},
                                          slot.last);
    return {out[0], slot.last ? absent : out[1]};
  }

  /// x = m_0 . (u + k . skip) + m_1 . x0, and c norm(x).
  std::pair<ValueId, ValueId> mix(const Slot& slot, const std::string& name, ValueId u, ValueId x0,
                                  ValueId skip, float c) {
    const auto weights = b_.parameter(name + "resid_mix");
    std::vector<ValueId> out;
    if (skip == absent) {
      out = b_.op<ops::MixNorm>({u, x0, weights}, c, c_.norm_eps);
    } else {
      out = b_.op<ops::MixNorm>({u, x0, weights, skip, of_skip(slot, "skip_weights")}, c, c_.norm_eps, false,
                                true);
    }
    return {out[0], out[1]};
  }

  /// x + scale . a
  ValueId add_scaled(ValueId x, ValueId a, const std::string& scale) {
    return b_.op1<ops::ScaledResidual>({x, a, b_.parameter(scale)});
  }

  ValueId mlp(const std::string& name, ValueId y) {
    const float slope = c_.activation == Activation::relu_square ? 0.0f : c_.leaky_slope;
    const auto h = linear(y, name + "mlp.fc.weight");
    return linear(b_.op1<ops::LeakyReluSquared>({h}, slope), name + "mlp.proj.weight");
  }

  /// Queries, keys and values of normed rows y.
  std::vector<ValueId> heads(int l, const std::string& name, ValueId y) {
    std::vector<ValueId> in = {linear(y, name + "attn.qkv.weight"), b_.parameter(name + "attn.q_gain"), rope_,
                               length_};
    const auto slot = std::ranges::find(c_.ve_layers, l);
    const bool with_ve = c_.ve_dim && slot != c_.ve_layers.end();
    if (with_ve)
      in.insert(in.end(), {ve_, b_.parameter("ve_shared.scale"),
                           b_.parameter(fmt::format("ve_layer_scales.{}", slot - c_.ve_layers.begin()))});
    else
      in.insert(in.end(), 3, absent);
    return b_.apply(std::make_shared<const ops::QkvPrepare>(shape_, c_.rope_dims, c_.norm_eps, with_ve),
                    std::move(in));
  }

  ValueId attention(const Slot& slot, const std::string& name, ValueId y, bool narrow) {
    const auto p = heads(slot.layer, name, y);
    const int queries = narrow ? scored() : S_;
    auto q = p[0];
    if (narrow)
      q = b_.reshape(b_.op1<ops::TakeLast>({b_.reshape(q, {B_, S_, c_.width})}, queries),
                     {B_, queries, shape_.heads, shape_.head_dim});
    auto o = decoding() ? decode_attention(slot.cache, q, p[1], p[2])
                        : b_.op1<ops::Attention>({q, p[1], p[2], segments_}, shape_, true,
                                                 segments_ == graph::absent ? 0 : c_.window);
    if (std::ranges::count(c_.xsa_layers, slot.layer)) o = b_.op1<ops::Xsa>({o, p[2]}, shape_);
    if (c_.attn_gate != AttentionGate::none)
      o = b_.op1<ops::HeadGate>({o, y, b_.parameter(name + "attn.attn_gate_w")}, c_.attn_gate_scale,
                                c_.attn_gate == AttentionGate::twice ? 2.0f : 1.0f);
    return b_.reshape(o, {B_, queries, c_.width});
  }

  ValueId decode_attention(const std::string& cache_name, ValueId q, ValueId k, ValueId v) {
    const Meta cache{o_.dtype, {B_, capacity(), shape_.kv_heads, shape_.head_dim}};
    const auto keys = b_.state(cache_name + ".keys", cache), values = b_.state(cache_name + ".values", cache);
    return b_
        .apply_stateful(std::make_shared<const ops::AttentionDecode>(shape_),
                        {q, k, v, length_, keys, values})
        .front();
  }

  /// The loss; absent outside of training.
  ValueId head(ValueId u) {
    b_.scope("head");
    if (decoding()) u = last_column(u);
    const int n = decoding() ? 1 : scored();
    const auto f = b_.op1<ops::RmsNorm>({u}, 1.0f, c_.norm_eps);
    const auto z = linear(f, "tok_emb.weight");
    if (o_.mode == Mode::calibrate) return absent;
    if (o_.mode == Mode::logits || decoding()) {
      b_.output(b_.op1<ops::Softcap>({z}, c_.softcap), "logits");
      return absent;
    }
    const auto targets = b_.input("targets", {DType::i32, {B_, n}});
    const float z_loss = o_.mode == Mode::train ? o_.z_loss : 0.0f;
    const auto nll = b_.op1<ops::SoftcapCrossEntropy>({z, targets}, c_.softcap, z_loss);
    b_.output(nll, "nll");
    if (o_.mode == Mode::score) return absent;
    const auto weights = b_.input("weights", {b_.wide(), {B_, n}});
    const auto loss = b_.op1<ops::WeightedSum>({nll, weights});
    b_.output(loss, "loss");
    return loss;
  }

  const ModelConfig& c_;
  const BuildOptions& o_;
  const std::vector<Slot> slots_;
  graph::Builder b_;
  const int B_, S_;
  ops::HeadShape shape_;
  ValueId tokens_ = absent, length_ = absent, previous_ = absent, segments_ = absent;
  ValueId rope_ = absent, ve_ = absent;
  std::map<std::string, ValueId> hessians_;  ///< of a calibration, by matrix
};

}  // namespace

graph::Graph build(const ModelConfig& config, const graph::ParameterLayout& layout,
                   const BuildOptions& options) {
  base::check(options.rows >= 1, "rows = {}", options.rows);
  base::check(options.mode != Mode::decode || config.memory_tokens == 0, "decoding with memory tokens");
  return FamilyBuilder(config, layout, options).run();
}

}  // namespace fairway::model
