#pragma once
// Small artifacts made from counter-based random numbers.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fairway/artifact/artifact.h"
#include "fairway/base/random.h"

namespace fairway::artifact::testing {

inline StoredTensor make_tensor(const std::string& name, TensorKind kind, std::vector<std::int64_t> shape) {
  StoredTensor t;
  t.name = name;
  t.kind = kind;
  t.shape = std::move(shape);
  const base::Random random(5, name);
  const auto n = static_cast<std::size_t>(t.elements());
  const int limit = kind == TensorKind::int6 ? 31 : kind == TensorKind::int5 ? 15 : 127;
  for (std::size_t i = 0; i < n; ++i) {
    // Spreads as trained matrices on the fixed grid have them: about 4.6 bits for each int6 value.
    const double v = random.normal(i) * limit / 5.0;
    if (is_integer(kind))
      t.q.push_back(static_cast<std::int8_t>(std::clamp(std::round(v), -1.0 * limit, 1.0 * limit)));
    if (kind == TensorKind::f16) t.half.push_back(tensor::to_f16(static_cast<float>(v)));
    if (kind == TensorKind::f32) t.full.push_back(static_cast<float>(v));
  }
  if (is_integer(kind))
    for (std::int64_t r = 0; r < t.rows(); ++r)
      t.scales.push_back(tensor::to_f16(static_cast<float>(1.0 / limit + 0.001 * static_cast<double>(r))));
  return t;
}

/// Every kind, rank 0 to 3, two layers. This is what tests/golden/artifact_v1.fairway holds: never change it.
inline Artifact golden_artifact() {
  Artifact a;
  for (const std::string layer : {"0", "1"}) {
    a.tensors.push_back(make_tensor("blocks." + layer + ".attn.c_q.weight", TensorKind::int6, {4, 6}));
    a.tensors.push_back(make_tensor("blocks." + layer + ".mlp.fc.weight", TensorKind::int6, {6, 4}));
    a.tensors.push_back(make_tensor("blocks." + layer + ".attn_scale", TensorKind::f16, {6}));
  }
  a.tensors.push_back(make_tensor("tok_emb.weight", TensorKind::int8, {9, 6}));
  a.tensors.push_back(make_tensor("bank.0.lora", TensorKind::int5, {2, 3, 4}));
  a.tensors.push_back(make_tensor("skip_weights", TensorKind::f32, {2, 6}));
  a.tensors.push_back(make_tensor("smear.gate", TensorKind::f32, {}));
  a.tokenizer = TokenizerSection{std::string("\x0a\x05pieces\0\xff", 9), "none", "challenge"};
  a.recipe_text = "[model]\nlayers = 2\nwidth = 6  # ünïcode\n";
  a.provenance = {"0.1.0", "cpu", "avx2", 1337,
                  R"({"name":"synthetic","shards":[{"hash":"00ff","tokens":100}]})"};
  return a;
}

/// golden_artifact and two groups that are worth streams of their own: rows of one resemble each other, the
/// other's columns differ in width. This is what tests/golden/artifact_v1_groups.fairway holds: never change
/// it.
inline Artifact grouped_artifact() {
  Artifact a = golden_artifact();
  for (const std::string layer : {"0", "1"}) {
    const base::Random random(9, layer);
    auto rows = make_tensor("blocks." + layer + ".mlp.proj.weight", TensorKind::int6, {96, 70});
    auto columns = make_tensor("blocks." + layer + ".attn.proj.weight", TensorKind::int6, {70, 96});
    for (std::size_t i = 0; i < rows.q.size(); ++i) {
      const std::size_t prototype = random.bits(i / 70) % 12;  // most values are those of one of 12 rows
      if (random.bits(i + 10'000) % 16 > 0) rows.q[i] = rows.q[prototype * 70 + i % 70];
      if (i % 96 % 8 > 0) columns.q[i] /= 8;
    }
    a.tensors.push_back(rows);
    a.tensors.push_back(columns);
  }
  return a;
}

inline bool same_bits(const StoredTensor& a, const StoredTensor& b) {
  const auto equal_half = [](const std::vector<tensor::f16>& x, const std::vector<tensor::f16>& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                      [](auto p, auto q) { return p.bits == q.bits; });
  };
  return a.name == b.name && a.kind == b.kind && a.shape == b.shape && a.q == b.q &&
         equal_half(a.scales, b.scales) && equal_half(a.half, b.half) && a.full == b.full &&
         a.correction == b.correction;
}

}  // namespace fairway::artifact::testing
