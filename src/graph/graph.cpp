#include "fairway/graph/graph.h"

#include "fairway/base/error.h"

namespace fairway::graph {

std::string_view buffer_kind_name(BufferKind kind) {
  switch (kind) {
    case BufferKind::parameter:
      return "parameter";
    case BufferKind::compute:
      return "compute weight";
    case BufferKind::gradient:
      return "gradient";
    case BufferKind::input:
      return "input";
    case BufferKind::constant:
      return "constant";
    case BufferKind::state:
      return "state";
    default:
      return "scratch";
  }
}

namespace {
std::vector<Meta> metas(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<Meta> result;
  result.reserve(ids.size());
  for (auto v : ids) result.push_back(v == absent ? Meta{} : graph.at(v).meta);
  return result;
}
}  // namespace

ops::Cost Graph::cost(const Step& step) const {
  return step.op->cost(metas(*this, step.in), metas(*this, step.out));
}

ValueId Graph::find(std::string_view value_name) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto& v = values[i];
    const bool named = v.output || v.kind == BufferKind::input || v.kind == BufferKind::state;
    if (named && v.name == value_name) return static_cast<ValueId>(i);
  }
  base::check(false, "program '{}' has no input, output or state '{}'", name, value_name);
  return absent;
}

}  // namespace fairway::graph
