#pragma once
// How the harness executes operators; private to it.

#include <memory>
#include <optional>

#include "fairway/base/thread_pool.h"
#include "fairway/ops/cuda.h"
#include "fairway/ops/registry.h"
#include "fairway/tensor/buffer.h"
#include "ops/harness.h"

namespace fairway::ops::harness {

/// An array followed by a guard zone that no kernel may touch. Filled with 0xff: NaN as a float, -1 as an
/// integer.
class Block {
 public:
  Block() = default;
  explicit Block(Meta meta);
  View view() const { return present_ ? View{buffer_.data(), meta_} : View{}; }
  const Meta& meta() const { return meta_; }
  /// Array and guard zone together.
  View whole() const {
    return present_ ? View{buffer_.data(), {DType::u8, {static_cast<std::int64_t>(buffer_.bytes())}}}
                    : View{};
  }
  bool guard_intact() const;
  std::vector<double> values() const;  ///< any dtype, widened
  void assign(const std::vector<double>& values);
  bool same_bytes(const Block& other) const;

 private:
  bool present_ = false;
  Meta meta_;
  tensor::Buffer buffer_;
};
using Blocks = std::vector<Block>;

/// Under which conditions a case runs.
struct Setting {
  bool f64 = false;
  base::Isa isa = base::Isa::scalar;
  base::ThreadPool* pool = nullptr;
  cuda::State* cuda = nullptr;  ///< run on this GPU instead
  std::string place() const { return cuda ? cuda->device().str() : std::string(base::isa_name(isa)); }
};

bool is_floating(DType t);
/// The meta that an input has in the f32 or f64 form.
Meta form_of(Meta meta, bool f64);
/// Input values of a case, rounded to their storage dtype.
std::vector<std::vector<double>> input_values(const OpCase& c);
Blocks make_inputs(const OpCase& c, bool f64);
Blocks make_inputs(const OpCase& c, bool f64, const std::vector<std::vector<double>>& values);
std::vector<View> views(const Blocks& blocks);
std::vector<Meta> metas(const std::vector<View>& views);

/// One call of an operator: which outputs are wanted, and what they hold before (content: Write::add).
struct Call {
  const Operator& op;
  std::vector<View> in;
  std::vector<bool> wanted;                        ///< empty: all
  std::vector<std::vector<double>> content;        ///< empty, or per output; an empty entry: Write::set
  std::optional<InPlace> in_place;                 ///< this output is given the memory of this input
  std::optional<std::pair<int, int>> joined = {};  ///< the second output is the first one's array, added to
};
/// Runs it (on a GPU: on copies of everything there); `problem` receives complaints (guard zone hit).
/// Unwanted outputs come back absent.
Blocks execute(const OpCase& c, const Setting& setting, const Call& call, std::string& problem);

/// Forward and what backward reads.
struct Forward {
  Blocks in, out;
  Blocks grads;        ///< gradient of each output; absent for saved, integer or deliberately missing ones
  Blocks temporaries;  ///< that backward steps make for later ones; absent where they read no gradient
};
Forward run_forward(const OpCase& c, const Setting& setting, int missing_gradient, std::string& problem);

/// Forward and all input gradients under one setting.
struct Everything {
  Forward forward;
  std::vector<std::vector<double>> gradients;
};
Everything run_everything(const OpCase& c, const Setting& s, std::string& problem);
/// A case under one setting against reference values: forward, backward with each gradient wanted alone,
/// unwanted and added to, forward outputs added to, in-place pairs.
std::string check_form(const OpCase& c, const Setting& s, const Everything& reference);
bool reads_any_gradient(const Forward& f, const BackwardStep& step);

/// No output gradient is missing.
inline constexpr int none = -1;
/// Each line with the name of the case and of the check before it.
std::string prefixed(const OpCase& c, const std::string& check, const std::string& problems);
double now(Clock clock, int threads);

/// What a step of backward reads.
std::vector<View> gather_reads(const Forward& f, const BackwardStep& step);

/// Does the problem list already say enough?
void complain(std::string& problems, const std::string& line);
/// |a - b| <= tolerance * (|b| + rms(b)), elementwise, and where asked
/// ||a - b|| <= norm_tolerance * ||b||; complains with the worst element.
void compare(std::string& problems, const std::string& what, const std::vector<double>& got,
             const std::vector<double>& want, double tolerance, double norm_tolerance = 0);
/// Normal numbers, as gradients and known contents of this case are stored.
std::vector<double> noise(const OpCase& c, const std::string& purpose, const Meta& meta);

}  // namespace fairway::ops::harness
