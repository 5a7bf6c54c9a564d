#pragma once
// What an operator is. An operator is fused at the size that the hardware likes; its header is its contract:
// formula, shapes, dtypes, what backward reads, cost, source. Kernels stand beside it in cpu/ and cuda/.

#include "fairway/tensor/view.h"

#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace fairway::base {
class ThreadPool;
}

namespace fairway::ops {

using tensor::DType;
using tensor::Meta;
using tensor::Shape;
using tensor::View;

/// How a step stores one of its outputs.
enum class Write : std::uint8_t {
  set,  ///< overwrite
  add,  ///< add to what is there (gradients with several contributions, residual adds)
};

/// Work of one step, for `explain`, `bench` and the roofline.
struct Cost {
  double flops = 0;  ///< multiply and add count 2
  double bytes = 0;  ///< each input read once, each output written once
};

class Operator;
using OperatorPtr = std::shared_ptr<const Operator>;

/// One value that a backward operator reads, seen from the forward step.
struct Ref {
  enum class From : std::uint8_t { input, output, grad_output, temporary } from = From::input;
  int index = 0;
};
constexpr Ref input(int i) { return {Ref::From::input, i}; }
constexpr Ref output(int i) { return {Ref::From::output, i}; }
constexpr Ref grad(int i) {
  return {Ref::From::grad_output, i};
}  ///< gradient of forward output i; absent when zero
/// What an earlier step of the same operator's backward made for to_temporary(t).
constexpr Ref temporary(int t) { return {Ref::From::temporary, t}; }
/// In BackwardStep::grads: the output is no gradient but read by later steps of the same operator.
constexpr int to_temporary(int t) { return -1 - t; }

/// One step of an operator's backward: run `op` on `reads`; its output k is (a contribution to) the gradient
/// of forward input grads[k], or temporary t for to_temporary(t). An output whose gradient nobody wants is
/// passed as an absent view, and the kernel skips its work; a step none of whose outputs is wanted is not
/// emitted. With a null `op` the
/// gradient of forward output reads[0].index passes unchanged to forward input grads[0] (an alias, not a
/// copy).
struct BackwardStep {
  OperatorPtr op;
  std::vector<Ref> reads;
  std::vector<int> grads;
};

/// An output that may share memory with an input that dies at this step.
struct InPlace {
  int output = 0;
  int input = 0;
};

/// An immutable description of one computation: attributes and rules, no memory, no device. Thread-safe.
/// Activations are f32 on the CPU (f64 in the harness), f32 or bf16 on a GPU; beside bf16 activations the
/// scales of channels and heads, rope tables, r, lse, losses and the gradients of parameters stay f32.
class Operator {
 public:
  virtual ~Operator() = default;
  virtual std::string_view name() const = 0;  ///< key of the kernel tables
  /// Shape rule: checks the inputs and returns the outputs' metas. Absent optional inputs have rank 0 and are
  /// told apart by the operator's attributes or the number of inputs. Throws a check error on a mismatch.
  virtual std::vector<Meta> infer(std::span<const Meta> in) const = 0;
  virtual Cost cost(std::span<const Meta> in, std::span<const Meta> out) const;  ///< default: bytes only
  virtual std::vector<BackwardStep> backward() const { return {}; }              ///< empty: no gradient flows
  virtual std::vector<InPlace> in_place() const { return {}; }
  /// Inputs that are never read: they only name whose gradient backward gives, and kernels find them absent.
  virtual std::vector<int> gradient_only() const { return {}; }
  /// Several outputs may be one array (gradients of the same value): the first is stored as asked, the others
  /// come with Write::add and are added to it. Otherwise derivation adds them afterwards.
  virtual bool joins_outputs() const { return false; }
  /// Scratch memory the kernel needs for these shapes on any device, cut by shape alone (never by thread
  /// count).
  virtual std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const;
  /// Attributes as shown by `explain`: "heads=8 kv_heads=4".
  virtual std::string attributes() const { return {}; }
};

namespace cuda {
class State;  // fairway/ops/cuda.h
}

/// What a kernel may use while it runs.
struct Context {
  base::ThreadPool* pool = nullptr;  ///< CPU kernels
  /// What the operands of products of f32 activations are rounded to: f32 (not at all) or bf16; sums are in
  /// fp32 (docs/architecture.md, "Numbers and determinism").
  DType products = DType::f32;
  void* stream = nullptr;       ///< CUDA kernels: cudaStream_t, the state's
  cuda::State* cuda = nullptr;  ///< CUDA kernels
};

/// One call of a kernel. Absent optional inputs and unwanted outputs have null data.
struct KernelArgs {
  const Operator& op;
  std::span<const View> in;
  std::span<const View> out;
  std::span<const Write> write;  ///< one per output
  View workspace;                ///< u8, workspace_bytes()
  const Context& context;
};
using Kernel = void (*)(const KernelArgs&);

/// One line of a backend's kernel table.
struct KernelEntry {
  std::string_view op;
  Kernel kernel;
};

}  // namespace fairway::ops
