#pragma once
// One harness for all operators: test, gradient and performance from one description of a case.
// No test framework in here, so that bench/ops can use it: checks return a text that is empty when all is
// well.
//
//   OpCase c{.name = "rms_norm odd", .op = std::make_shared<RmsNorm>(1.f, 1e-6f)};
//   c.inputs = {tensor_input({3, 65}, normal())};
//   c.saved_outputs = {1};                       // r has no gradient
//   EXPECT_EQ(run_all_checks(c), "");

#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fairway/base/cpu.h"
#include "fairway/base/random.h"
#include "fairway/ops/operator.h"

namespace fairway::ops::harness {

/// Value of element `index` of an input, drawn from the input's own random stream: a pure function.
class Generator {
 public:
  using Function = std::function<double(const base::Random&, std::uint64_t index)>;
  Generator() = default;
  template <class F>
  requires std::constructible_from<Function, F> Generator(F draw)
      : kept_(std::make_shared<Kept>(Function(std::move(draw)))) {}
  explicit operator bool() const { return kept_ != nullptr; }
  double operator()(const base::Random& random, std::uint64_t index) const {
    return kept_->draw(random, index);
  }
  /// The first `count` values of a stream. Drawn once, long ones by all cores, and kept as long as a copy of
  /// the generator lives: a check asks for the same inputs many times over.
  const std::vector<double>& values(std::uint64_t seed, const std::string& purpose, std::size_t count) const;

 private:
  struct Kept {
    explicit Kept(Function f) : draw(std::move(f)) {}
    Function draw;
    std::map<std::tuple<std::uint64_t, std::string, std::size_t>, std::vector<double>> streams;
  };
  std::shared_ptr<Kept> kept_;
};

Generator normal(double deviation = 1.0, double mean = 0.0);
Generator uniform(double low, double high);
Generator integers(std::int64_t low, std::int64_t end);  ///< uniform in [low, end)
Generator constant(double value);
Generator listed(std::vector<double> values);  ///< element i is values[i]

/// One input. Floating dtypes become f64 in the double form, with values rounded to `meta.dtype` first.
struct InputSpec {
  Meta meta;
  Generator generator;          ///< null: the input is absent
  bool differentiable = false;  ///< must receive a gradient, which is checked; otherwise it may get none
  bool state = false;           ///< written by the step: compared like an output
};
InputSpec tensor_input(Shape shape, Generator generator, bool differentiable = true);  ///< f32
InputSpec index_input(Shape shape, Generator generator);                               ///< i32, no gradient
InputSpec absent_input();

/// An operator on concrete inputs, with what is expected of it.
struct OpCase {
  std::string name{};
  OperatorPtr op{};
  std::vector<InputSpec> inputs{};
  std::vector<int> saved_outputs{};  ///< floating outputs without a gradient (kept for backward: r, lse)
  std::vector<int> add_outputs{};    ///< forward outputs that honour Write::add
  std::vector<std::vector<Meta>> rejects{};  ///< lists of input metas that infer must refuse
  DType products = DType::f32;
  std::uint64_t seed = 1;
  Generator noise = normal();    ///< gradients of outputs, and what outputs are added to
  double tolerance = 2e-5;       ///< f32 against f64: |a - b| <= tolerance * (|b| + rms(b))
  double norm_tolerance = 0;     ///< also |a - b| <= norm_tolerance * |b| over the whole array; 0: not asked
  bool narrow = false;           ///< gradients and known contents are bf16 numbers
  bool in_place_rounds = false;  ///< bf16 in place is within the tolerances, not the same bytes
  double gradient_tolerance = 2e-6;  ///< backward in f64 against finite differences, same measure
  double epsilon = 1e-5;             ///< half step of the central difference
  int probes = 40;                   ///< elements of each input probed one by one (plus one random direction)
  bool finite_differences = true;    ///< false for straight-through gradients
};

/// Everything below, in this order. Empty when all is well; else one line
/// per problem (at most 20).
std::string run_all_checks(const OpCase& c);

/// infer refuses `rejects`, an empty input list, and each input with dtype u8; its outputs have sane shapes.
std::string check_infer(const OpCase& c);
/// backward() through the f64 kernels against central differences of a random projection of the outputs, with
/// all output gradients and with each one absent; each input gradient unwanted and wanted alone; Write::add.
std::string check_gradient(const OpCase& c);
/// f32 kernels of every instruction set against the f64 form, forward and backward; outputs and workspace
/// poisoned with NaN, guard zones behind them; in-place pairs; Write::add. Then check_cuda.
std::string check_precision(const OpCase& c);
/// 1, 2 and 3 threads give the same bytes.
std::string check_threads(const OpCase& c);

/// On the first GPU: the f32 form against the f64 form of the CPU (1e-4, or the case's own tolerance), the
/// bf16 form (1e-2 of the array's norm or the case's own part of it, 1e-1 of an element) against the f64 form
/// of the same rounded inputs; forward and backward; guard zones; in-place pairs; Write::add; two runs give
/// the same bytes. Empty where there is no GPU (see `gpu_missing`).
std::string check_cuda(const OpCase& c);
/// The case with bf16 activations; nothing when the operator has none.
std::optional<OpCase> bf16_form(const OpCase& c);
/// Why check_cuda does nothing here; empty where it runs.
std::string gpu_missing();

/// Time of one step of a case: the forward operator or one backward step.
struct Timing {
  std::string op;
  double seconds = 0;  ///< best of the repeats
  double gflops = 0;   ///< Cost::flops / seconds / 1e9
  double gbytes = 0;   ///< Cost::bytes / seconds / 1e9
};
/// Which clock: wall time, or the processor time of all threads divided by their number, which says how good
/// the code is on a machine that is busy with other work (but hides idle threads).
enum class Clock { wall, processor };
/// Times forward, then each backward step with every gradient wanted; `budget` seconds each.
std::vector<Timing> measure(const OpCase& c, int threads, base::Isa isa, double budget = 0.3,
                            Clock clock = Clock::wall);
/// The same on a GPU, back to back between two synchronisations.
std::vector<Timing> measure_cuda(const OpCase& c, double budget = 0.05);

}  // namespace fairway::ops::harness
