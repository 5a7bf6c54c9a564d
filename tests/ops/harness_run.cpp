#include "ops/harness_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "fairway/tensor/cuda.h"

namespace fairway::ops::harness {
namespace {

constexpr std::size_t guard_bytes = 256;
constexpr int poison = 0xff;

double round_to(DType t, double v) {
  switch (t) {
    case DType::f32:
      return static_cast<float>(v);
    case DType::bf16:
      return tensor::round_to_bf16(static_cast<float>(v));
    case DType::f16:
      return tensor::to_float(tensor::to_f16(static_cast<float>(v)));
    default:
      return v;
  }
}

template <class T>
void store(void* p, std::int64_t i, T v) {
  std::memcpy(static_cast<T*>(p) + i, &v, sizeof(T));
}

void store_value(const View& view, std::int64_t i, double v) {
  switch (view.dtype()) {
    case DType::f64:
      return store(view.data, i, v);
    case DType::f32:
      return store(view.data, i, static_cast<float>(v));
    case DType::bf16:
      return store(view.data, i, tensor::to_bf16(static_cast<float>(v)));
    case DType::f16:
      return store(view.data, i, tensor::to_f16(static_cast<float>(v)));
    case DType::i64:
      return store(view.data, i, static_cast<std::int64_t>(v));
    case DType::i32:
      return store(view.data, i, static_cast<std::int32_t>(v));
    case DType::i8:
      return store(view.data, i, static_cast<std::int8_t>(v));
    case DType::u8:
      return store(view.data, i, static_cast<std::uint8_t>(v));
  }
}

double load_value(const View& view, std::int64_t i) {
  switch (view.dtype()) {
    case DType::f64:
      return view.as<double>()[i];
    case DType::f32:
      return view.as<float>()[i];
    case DType::bf16:
      return tensor::to_float(view.as<tensor::bf16>()[i]);
    case DType::f16:
      return tensor::to_float(view.as<tensor::f16>()[i]);
    case DType::i64:
      return static_cast<double>(view.as<std::int64_t>()[i]);
    case DType::i32:
      return view.as<std::int32_t>()[i];
    case DType::i8:
      return view.as<std::int8_t>()[i];
    case DType::u8:
      return view.as<std::uint8_t>()[i];
  }
  return 0;
}

/// Hands over the memory of an input to an output of the same size.
View aliased(const Call& call, int output, const View& own) {
  if (!call.in_place || call.in_place->output != output) return own;
  const View& input = call.in[static_cast<std::size_t>(call.in_place->input)];
  base::check(input.meta == own.meta, "in-place pair of {} differs in shape or dtype", call.op.name());
  return input;
}

/// A copy on the GPU of a stretch of host memory.
class Mirror {
 public:
  Mirror(cuda::State& state, const View& host, std::size_t bytes)
      : device_(state.device()), host_(host), bytes_(bytes), buffer_(device_, bytes) {
    tensor::copy_bytes(device_, buffer_.data(), {}, host_.data, bytes_);
  }
  View view() const { return {buffer_.data(), host_.meta}; }
  void back() const { tensor::copy_bytes({}, host_.data, device_, buffer_.data(), bytes_); }

 private:
  tensor::Device device_;
  View host_;
  std::size_t bytes_;
  tensor::Buffer buffer_;
};

/// The same call on copies in GPU memory. Everything comes back: outputs with their guard zones, inputs too
/// (state).
void run_on_gpu(cuda::State& state, Products products, const Call& call, const Blocks& blocks,
                const std::vector<View>& out_views, const std::vector<Write>& writes,
                const Block& workspace) {
  state.make_current();
  std::vector<std::optional<Mirror>> in(call.in.size()), out(blocks.size());
  std::vector<View> in_there(call.in.size()), out_there(blocks.size());
  for (std::size_t i = 0; i < in.size(); ++i)
    if (call.in[i]) in_there[i] = in[i].emplace(state, call.in[i], call.in[i].bytes()).view();
  for (std::size_t k = 0; k < out.size(); ++k) {
    if (!out_views[k]) continue;
    const bool shared = call.in_place && call.in_place->output == static_cast<int>(k);
    if (call.joined && call.joined->second == static_cast<int>(k))
      out_there[k] = out_there[static_cast<std::size_t>(call.joined->first)];
    else if (shared)
      out_there[k] = in_there[static_cast<std::size_t>(call.in_place->input)];
    else
      out_there[k] = {out[k].emplace(state, out_views[k], blocks[k].whole().bytes()).view().data,
                      out_views[k].meta};
  }
  const Mirror scratch(state, workspace.view(), workspace.whole().bytes());
  const Context context{nullptr, products, state.stream(), &state};
  find_kernel(call.op.name(), state.device(),
              {})({call.op, in_there, out_there, writes, scratch.view(), context});
  state.synchronize();
  for (const auto& m : in)
    if (m) m->back();
  for (const auto& m : out)
    if (m) m->back();
  scratch.back();
}

/// What backward steps hand to later ones, made once for a forward.
void make_temporaries(const OpCase& c, const Setting& setting, Forward& f, std::string& problem) {
  for (const BackwardStep& step : c.op->backward()) {
    if (!step.op || !reads_any_gradient(f, step)) continue;
    if (std::none_of(step.grads.begin(), step.grads.end(), [](int g) { return g < 0; })) continue;
    Blocks made = execute(c, setting, {*step.op, gather_reads(f, step), {}, {}, {}}, problem);
    for (std::size_t k = 0; k < step.grads.size(); ++k) {
      if (step.grads[k] >= 0) continue;
      const auto index = static_cast<std::size_t>(to_temporary(step.grads[k]));
      if (f.temporaries.size() <= index) f.temporaries.resize(index + 1);
      f.temporaries[index] = std::move(made[k]);
    }
  }
}

}  // namespace

Generator normal(double deviation, double mean) {
  return [=](const base::Random& r, std::uint64_t i) { return mean + deviation * r.normal(i); };
}
Generator uniform(double low, double high) {
  return [=](const base::Random& r, std::uint64_t i) { return low + (high - low) * r.uniform(i); };
}
Generator integers(std::int64_t low, std::int64_t end) {
  return [=](const base::Random& r, std::uint64_t i) {
    return static_cast<double>(low +
                               static_cast<std::int64_t>(r.below(i, static_cast<std::uint64_t>(end - low))));
  };
}
Generator constant(double value) {
  return [=](const base::Random&, std::uint64_t) { return value; };
}
Generator listed(std::vector<double> values) {
  return [v = std::move(values)](const base::Random&, std::uint64_t i) { return v.at(i); };
}

InputSpec tensor_input(Shape shape, Generator generator, bool differentiable) {
  return {{DType::f32, shape}, std::move(generator), differentiable, false};
}
InputSpec index_input(Shape shape, Generator generator) {
  return {{DType::i32, shape}, std::move(generator), false, false};
}
InputSpec absent_input() { return {}; }

Block::Block(Meta meta) : present_(true), meta_(meta), buffer_({}, meta.bytes() + guard_bytes) {
  std::memset(buffer_.data(), poison, buffer_.bytes());
}

bool Block::guard_intact() const {
  if (!present_) return true;
  const std::byte* guard = buffer_.data() + meta_.bytes();
  return std::all_of(guard, guard + guard_bytes, [](std::byte b) { return b == std::byte{poison}; });
}

std::vector<double> Block::values() const {
  if (!present_) return {};
  std::vector<double> result(static_cast<std::size_t>(meta_.shape.elements()));
  for (std::size_t i = 0; i < result.size(); ++i)
    result[i] = load_value(view(), static_cast<std::int64_t>(i));
  return result;
}

void Block::assign(const std::vector<double>& values) {
  base::check(static_cast<std::int64_t>(values.size()) == meta_.shape.elements(), "values for {}",
              meta_.shape.str());
  for (std::size_t i = 0; i < values.size(); ++i)
    store_value(view(), static_cast<std::int64_t>(i), values[i]);
}

bool Block::same_bytes(const Block& other) const {
  if (present_ != other.present_) return false;
  return !present_ ||
         (meta_ == other.meta_ && std::memcmp(buffer_.data(), other.buffer_.data(), meta_.bytes()) == 0);
}

bool is_floating(DType t) {
  return t == DType::f32 || t == DType::f64 || t == DType::bf16 || t == DType::f16;
}

Meta form_of(Meta meta, bool f64) {
  if (f64 && is_floating(meta.dtype)) meta.dtype = DType::f64;
  return meta;
}

std::vector<std::vector<double>> input_values(const OpCase& c) {
  std::vector<std::vector<double>> all(c.inputs.size());
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const InputSpec& spec = c.inputs[i];
    if (!spec.generator) continue;
    base::Random random(c.seed, "input " + std::to_string(i));
    for (std::int64_t e = 0; e < spec.meta.shape.elements(); ++e)
      all[i].push_back(round_to(spec.meta.dtype, spec.generator(random, static_cast<std::uint64_t>(e))));
  }
  return all;
}

Blocks make_inputs(const OpCase& c, bool f64, const std::vector<std::vector<double>>& values) {
  Blocks blocks;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    if (!c.inputs[i].generator) {
      blocks.emplace_back();
      continue;
    }
    blocks.emplace_back(form_of(c.inputs[i].meta, f64));
    blocks.back().assign(values[i]);
  }
  return blocks;
}
Blocks make_inputs(const OpCase& c, bool f64) { return make_inputs(c, f64, input_values(c)); }

std::vector<View> views(const Blocks& blocks) {
  std::vector<View> result;
  for (const Block& b : blocks) result.push_back(b.view());
  return result;
}

std::vector<Meta> metas(const std::vector<View>& views) {
  std::vector<Meta> result;
  for (const View& v : views) result.push_back(v ? v.meta : Meta{});
  return result;
}

double number_of(const OpCase& c, double v) { return round_to(c.narrow ? DType::bf16 : DType::f32, v); }

Blocks execute(const OpCase& c, const Setting& setting, const Call& call, std::string& problem) {
  const std::vector<Meta> in = metas(call.in), out = call.op.infer(in);
  Blocks blocks;
  std::vector<View> out_views;
  std::vector<Write> writes;
  for (std::size_t k = 0; k < out.size(); ++k) {
    const bool wanted = call.wanted.empty() || call.wanted[k];
    const bool add = wanted && k < call.content.size() && !call.content[k].empty();
    blocks.push_back(wanted ? Block(out[k]) : Block());
    if (add) blocks.back().assign(call.content[k]);
    out_views.push_back(aliased(call, static_cast<int>(k), blocks.back().view()));
    if (!wanted) out_views.back() = View{};
    writes.push_back(add ? Write::add : Write::set);
  }
  if (call.joined) {
    const auto to = static_cast<std::size_t>(call.joined->first),
               from = static_cast<std::size_t>(call.joined->second);
    blocks[from] = Block();
    out_views[from] = out_views[to];
    writes[from] = Write::add;
  }
  Block workspace(Meta{DType::u8, Shape{static_cast<std::int64_t>(call.op.workspace_bytes(in, out))}});
  Context context{setting.pool, c.products};
  if (setting.cuda)
    run_on_gpu(*setting.cuda, c.products, call, blocks, out_views, writes, workspace);
  else
    find_kernel(call.op.name(), {},
                setting.isa)({call.op, call.in, out_views, writes, workspace.view(), context});
  for (std::size_t k = 0; k < out.size(); ++k) {
    if (!blocks[k].guard_intact())
      complain(problem, std::string(call.op.name()) + ": wrote behind an output");
    if (call.in_place && call.in_place->output == static_cast<int>(k) && out_views[k])
      std::memcpy(blocks[k].view().data, out_views[k].data, out[k].bytes());
  }
  if (!workspace.guard_intact())
    complain(problem, std::string(call.op.name()) + ": wrote behind its workspace");
  return blocks;
}

Forward run_forward(const OpCase& c, const Setting& setting, int missing_gradient, std::string& problem) {
  Forward f;
  f.in = make_inputs(c, setting.f64);
  f.out = execute(c, setting, {*c.op, views(f.in), {}, {}, {}}, problem);
  for (std::size_t k = 0; k < f.out.size(); ++k) {
    const bool saved = std::find(c.saved_outputs.begin(), c.saved_outputs.end(), static_cast<int>(k)) !=
                       c.saved_outputs.end();
    if (saved || !is_floating(f.out[k].meta().dtype) || static_cast<int>(k) == missing_gradient) {
      f.grads.emplace_back();
      continue;
    }
    base::Random random(c.seed, "projection " + std::to_string(k));
    std::vector<double> weights;
    for (std::int64_t e = 0; e < f.out[k].meta().shape.elements(); ++e)
      weights.push_back(number_of(c, random.normal(static_cast<std::uint64_t>(e))));
    f.grads.emplace_back(f.out[k].meta());
    f.grads.back().assign(weights);
  }
  make_temporaries(c, setting, f, problem);
  return f;
}

std::vector<View> gather_reads(const Forward& f, const BackwardStep& step) {
  std::vector<View> reads;
  for (const Ref& r : step.reads) {
    const auto index = static_cast<std::size_t>(r.index);
    const Blocks& from = r.from == Ref::From::input         ? f.in
                         : r.from == Ref::From::output      ? f.out
                         : r.from == Ref::From::grad_output ? f.grads
                                                            : f.temporaries;
    // Optional inputs may be left off the end of the list, as in the graph.
    const bool optional = r.from == Ref::From::input || r.from == Ref::From::temporary;
    reads.push_back(optional && index >= from.size() ? View{} : from.at(index).view());
  }
  return reads;
}

void complain(std::string& problems, const std::string& line) {
  if (std::count(problems.begin(), problems.end(), '\n') < 20) problems += line + "\n";
}

void compare(std::string& problems, const std::string& what, const std::vector<double>& got,
             const std::vector<double>& want, double tolerance, double norm_tolerance) {
  if (got.size() != want.size()) return complain(problems, what + ": sizes differ");
  double squares = 0;
  for (double w : want) squares += w * w;
  const double rms = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(1, want.size())));
  double off = 0;
  for (std::size_t i = 0; i < want.size(); ++i) off += (got[i] - want[i]) * (got[i] - want[i]);
  if (norm_tolerance > 0 && !(off <= norm_tolerance * norm_tolerance * squares + 1e-30))
    complain(problems, fmt::format("{}: off by {:.2g} of its norm", what, std::sqrt(off / squares)));
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double allowed = tolerance * (std::abs(want[i]) + rms) + 1e-30;
    const double error = got[i] == want[i] ? 0 : std::abs(got[i] - want[i]) / allowed;
    if (!(error <= worst)) worst = error, at = i;  // NaN counts as worst
    if (std::isnan(error)) break;
  }
  if (!(worst <= 1))
    complain(problems,
             fmt::format("{}: element {} of {}: got {:.9g}, want {:.9g} ({:.2g} times the tolerance)", what,
                         at, want.size(), got[at], want[at], worst));
}

}  // namespace fairway::ops::harness
