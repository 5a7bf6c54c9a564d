#pragma once
// The recorded computation: values and steps, before memory is planned.

#include "fairway/ops/operator.h"
#include "fairway/tensor/buffer.h"

#include <memory>
#include <string>
#include <vector>

namespace fairway::graph {

using tensor::Meta;

/// Index of a value in its graph; `absent` for an optional input or an unwanted output.
using ValueId = std::int32_t;
constexpr ValueId absent = -1;

/// Where a value's memory comes from.
enum class BufferKind : std::uint8_t {
  parameter,  ///< in the ParameterStore
  compute,  ///< a parameter as products read it: the store's compute weight, or the value where there is none
  gradient,  ///< of a parameter, in the ParameterStore; steps add to it
  input,     ///< written by the host before a run; valid for one run
  constant,  ///< written once when the plan is allocated
  state,     ///< survives runs; shared by name among the programs of a plan
  scratch,   ///< planned in the arena
};
std::string_view buffer_kind_name(BufferKind kind);

/// An array in the graph. A reshape is a value of its own whose `root` is another.
struct Value {
  std::string name = {};
  Meta meta = {};
  BufferKind kind = BufferKind::scratch;
  std::int64_t offset = 0;     ///< elements into the root (slices of parameters)
  ValueId root = absent;       ///< value that owns the memory (itself unless a reshape)
  bool output = false;         ///< read by the host after a run
  bool requires_grad = false;  ///< a trainable parameter stands above it
};

/// One call of an operator.
struct Step {
  ops::OperatorPtr op;
  std::vector<ValueId> in, out;
  std::vector<ops::Write> write;  ///< one per output
  std::string scope;              ///< "blocks.3.attn"
  bool writes_state = false;      ///< changes a state it reads (a key/value cache)
  bool is_backward = false;
};

struct Constant {
  ValueId value = absent;
  std::shared_ptr<const tensor::Array> data;
};

/// A channel scale that was moved into the matrix before it: the compute weight holds scale . weight, row by
/// row.
struct Fold {
  std::string weight, scale;
  bool trains = false;  ///< the matrix gets a gradient: its own, or for the scale's sake
};

/// A place that a pass looked at.
struct PassNote {
  std::string pass, scope;
  std::string missed;  ///< why the plain steps stayed; empty: the pass fired
};

struct Graph {
  std::string name = {};
  std::vector<Value> values;
  std::vector<Step> steps;
  std::vector<Constant> constants;
  std::vector<Fold> folds;
  std::vector<PassNote> notes;

  ValueId root(ValueId v) const { return values[static_cast<std::size_t>(v)].root; }
  const Value& at(ValueId v) const { return values[static_cast<std::size_t>(v)]; }
  Value& at(ValueId v) { return values[static_cast<std::size_t>(v)]; }
  ops::Cost cost(const Step& step) const;
  ValueId find(
      std::string_view value_name) const;  ///< a named input, output or state; check error when unknown
};

}  // namespace fairway::graph
