#include "stages/stored_tensor.h"

namespace fairway::pipeline {
namespace {

artifact::TensorKind stored_kind(const quant::QuantizedTensor& t) {
  if (!t.fine.starts.empty()) return artifact::TensorKind::int8;  // some of its integers go up to 127
  switch (t.kind) {
    case quant::Kind::int6:
      return artifact::TensorKind::int6;
    case quant::Kind::int7:  // a byte holds it, and only the range of the values would differ
    case quant::Kind::int8:
      return artifact::TensorKind::int8;
    case quant::Kind::int5:
      return artifact::TensorKind::int5;
    default:
      return artifact::TensorKind::f16;
  }
}

quant::Kind kind_of(artifact::TensorKind kind) {
  switch (kind) {
    case artifact::TensorKind::int6:
      return quant::Kind::int6;
    case artifact::TensorKind::int8:
      return quant::Kind::int8;
    case artifact::TensorKind::int5:
      return quant::Kind::int5;
    default:
      return quant::Kind::fp16;
  }
}

}  // namespace

artifact::StoredTensor to_stored(quant::QuantizedTensor&& t) {
  artifact::StoredTensor s;
  s.kind = stored_kind(t);
  s.name = std::move(t.name);
  for (int i = 0; i < t.shape.rank(); ++i) s.shape.push_back(t.shape[i]);
  s.q = std::move(t.q);
  s.scales = std::move(t.scales);
  s.half = std::move(t.passthrough);
  auto& c = s.correction;
  c.rotated = t.rotated;
  if (!t.fine.starts.empty()) c.group_columns = t.fine.size;
  c.group_starts = std::move(t.fine.starts);
  c.group_scales = std::move(t.fine.scales);
  auto& l = t.low_rank;
  c.rank = l.rank, c.b_group = l.group;
  c.a = std::move(l.a), c.b = std::move(l.b);
  c.a_scale = l.a_scale, c.b_scales = std::move(l.b_scales);
  return s;
}

std::vector<float> dequantised(const artifact::StoredTensor& s, base::ThreadPool& pool) {
  if (s.kind == artifact::TensorKind::f32) return s.full;
  const auto& c = s.correction;
  const quant::QuantizedTensor t{s.name,
                                 tensor::Shape(s.shape),
                                 kind_of(s.kind),
                                 s.q,
                                 s.scales,
                                 s.half,
                                 {c.group_columns, c.group_starts, c.group_scales},
                                 {c.rank, c.b_group, c.a, c.b, c.a_scale, c.b_scales},
                                 c.rotated};
  std::vector<float> values(static_cast<std::size_t>(s.elements()));
  quant::dequantize(t, values, pool);
  return values;
}

}  // namespace fairway::pipeline
