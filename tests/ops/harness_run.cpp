#include "ops/harness_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

#include "fairway/tensor/cuda.h"

namespace fairway::ops::harness {
namespace {

constexpr std::size_t guard_bytes = 256;
constexpr int poison = 0xff;

template <class F>
void with_type(DType t, const F& f) {
  switch (t) {
    case DType::f64:
      return f(static_cast<double*>(nullptr));
    case DType::f32:
      return f(static_cast<float*>(nullptr));
    case DType::bf16:
      return f(static_cast<tensor::bf16*>(nullptr));
    case DType::f16:
      return f(static_cast<tensor::f16*>(nullptr));
    case DType::i64:
      return f(static_cast<std::int64_t*>(nullptr));
    case DType::i32:
      return f(static_cast<std::int32_t*>(nullptr));
    case DType::i8:
      return f(static_cast<std::int8_t*>(nullptr));
    case DType::u8:
      return f(static_cast<std::uint8_t*>(nullptr));
  }
}

template <class T>
T stored_as(double v) {
  if constexpr (std::is_same_v<T, tensor::bf16>)
    return tensor::to_bf16(static_cast<float>(v));
  else if constexpr (std::is_same_v<T, tensor::f16>)
    return tensor::to_f16(static_cast<float>(v));
  else
    return static_cast<T>(v);
}

template <class T>
double number_of(T stored) {
  if constexpr (std::is_same_v<T, tensor::bf16> || std::is_same_v<T, tensor::f16>)
    return static_cast<double>(tensor::to_float(stored));
  else
    return static_cast<double>(stored);
}

base::ThreadPool& all_cores() {
  static base::ThreadPool pool;
  return pool;
}

/// body(first, end) over [0, count) in pieces, long ranges on all cores.
template <class F>
void in_pieces(std::size_t count, const F& body) {
  constexpr std::size_t piece = 1 << 15;
  if (count < 2 * piece) return body(std::size_t{0}, count);
  all_cores().run(static_cast<std::int64_t>((count + piece - 1) / piece), [&](std::int64_t p) {
    const auto first = static_cast<std::size_t>(p) * piece;
    body(first, std::min(count, first + piece));
  });
}

/// The numbers that are stored of these; whole numbers as they are.
std::vector<double> rounded(DType t, const std::vector<double>& values) {
  if (!is_floating(t)) return values;
  std::vector<double> result(values.size());
  with_type(t, [&]<class T>(T*) {
    in_pieces(values.size(), [&](std::size_t first, std::size_t end) {
      for (auto i = first; i < end; ++i) result[i] = number_of(stored_as<T>(values[i]));
    });
  });
  return result;
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
void run_on_gpu(cuda::State& state, DType products, const Call& call, const Blocks& blocks,
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

const std::vector<double>& Generator::values(std::uint64_t seed, const std::string& purpose,
                                             std::size_t count) const {
  const auto [found, fresh] = kept_->streams.try_emplace({seed, purpose, count});
  auto& values = found->second;
  if (!fresh) return values;
  values.resize(count);
  const base::Random random(seed, purpose);
  in_pieces(count, [&](std::size_t first, std::size_t end) {
    for (auto i = first; i < end; ++i) values[i] = kept_->draw(random, i);
  });
  return values;
}

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
  const View from = view();
  with_type(from.dtype(), [&]<class T>(T*) {
    const T* stored = from.as<T>();
    in_pieces(result.size(), [&](std::size_t first, std::size_t end) {
      for (auto i = first; i < end; ++i) result[i] = number_of(stored[i]);
    });
  });
  return result;
}

void Block::assign(const std::vector<double>& values) {
  base::check(static_cast<std::int64_t>(values.size()) == meta_.shape.elements(), "values for {}",
              meta_.shape.str());
  const View to = view();
  with_type(to.dtype(), [&]<class T>(T*) {
    T* stored = to.as<T>();
    in_pieces(values.size(), [&](std::size_t first, std::size_t end) {
      for (auto i = first; i < end; ++i) stored[i] = stored_as<T>(values[i]);
    });
  });
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
    all[i] =
        rounded(spec.meta.dtype, spec.generator.values(c.seed, fmt::format("input {}", i),
                                                       static_cast<std::size_t>(spec.meta.shape.elements())));
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

std::vector<double> noise(const OpCase& c, const std::string& purpose, const Meta& meta) {
  const auto count = static_cast<std::size_t>(meta.shape.elements());
  return rounded(c.narrow ? DType::bf16 : DType::f32, c.noise.values(c.seed, purpose, count));
}

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
    f.grads.emplace_back(f.out[k].meta());
    f.grads.back().assign(noise(c, fmt::format("projection {}", k), f.out[k].meta()));
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
  struct Sums {
    double squares = 0, off = 0;
  };
  Sums sums;
  std::mutex mutex;  // the order of these sums does not matter here
  in_pieces(want.size(), [&](std::size_t first, std::size_t end) {
    Sums part;
    for (auto i = first; i < end; ++i) {
      part.squares += want[i] * want[i];
      part.off += (got[i] - want[i]) * (got[i] - want[i]);
    }
    const std::scoped_lock lock(mutex);
    sums.squares += part.squares, sums.off += part.off;
  });
  const auto [squares, off] = sums;
  if (!std::isfinite(squares))  // any error is small beside infinity
    return complain(problems, what + ": the reference is not finite");
  const double rms = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(1, want.size())));
  if (norm_tolerance > 0 && !(off <= norm_tolerance * norm_tolerance * squares + 1e-30))
    complain(problems, fmt::format("{}: off by {:.2g} of its norm", what, std::sqrt(off / squares)));
  // Errors in units of what is allowed; NaN is larger than all.
  const auto error = [&](std::size_t i) {
    return std::abs(got[i] - want[i]) / (tolerance * (std::abs(want[i]) + rms) + 1e-30);
  };
  const auto larger = [](double a, double b) { return a > b || (std::isnan(a) && !std::isnan(b)); };
  double worst = 0;
  std::size_t at = 0;
  in_pieces(want.size(), [&](std::size_t first, std::size_t end) {
    double here = 0;
    std::size_t where = first;
    for (auto i = first; i < end; ++i)
      if (const double e = error(i); larger(e, here)) here = e, where = i;
    const std::scoped_lock lock(mutex);
    if (larger(here, worst)) worst = here, at = where;
  });
  if (!(worst <= 1))
    complain(problems,
             fmt::format("{}: element {} of {}: got {:.9g}, want {:.9g} ({:.2g} times the tolerance)", what,
                         at, want.size(), got[at], want[at], worst));
}

}  // namespace fairway::ops::harness
