#include "fairway/graph/memory_plan.h"

#include "fairway/base/error.h"

#include <algorithm>
#include <numeric>

namespace fairway::graph {

namespace {

constexpr std::int64_t alignment = 256;
constexpr std::int64_t round_up(std::int64_t n) { return (n + alignment - 1) / alignment * alignment; }

/// A block of arena memory over the steps [first, last].
struct Block {
  std::int64_t bytes = 0, offset = -1;
  std::int64_t first = INT64_MAX, last = -1;
  bool overlaps(const Block& o) const { return first <= o.last && o.first <= last; }
};

class Planner {
 public:
  explicit Planner(const Graph& graph) : g_(graph), block_of_(graph.values.size(), -1) {}

  MemoryPlan run() {
    find_lifetimes();
    share_in_place();
    for (std::size_t s = 0; s < g_.steps.size(); ++s) add_workspace(s);
    place();
    return result();
  }

 private:
  static std::size_t at(ValueId v) { return static_cast<std::size_t>(v); }
  bool planned(ValueId root) const {
    return g_.at(root).kind == BufferKind::scratch || g_.at(root).kind == BufferKind::input;
  }

  void touch(ValueId v, std::int64_t step) {
    if (v == absent) return;
    const auto root = g_.root(v);
    if (!planned(root)) return;
    auto& id = block_of_[at(root)];
    if (id < 0) {
      id = static_cast<std::int64_t>(blocks_.size());
      blocks_.push_back({.bytes = round_up(static_cast<std::int64_t>(g_.at(root).meta.bytes()))});
    }
    auto& block = blocks_[static_cast<std::size_t>(id)];
    block.first = std::min(block.first, step);
    block.last = std::max(block.last, step);
  }

  void find_lifetimes() {
    const auto end = static_cast<std::int64_t>(g_.steps.size());
    for (std::size_t v = 0; v < g_.values.size(); ++v) {
      const auto& value = g_.values[v];
      if (value.kind == BufferKind::input && value.root == static_cast<ValueId>(v))
        touch(static_cast<ValueId>(v), -1);
      if (value.output) touch(static_cast<ValueId>(v), end);
    }
    for (std::int64_t s = 0; s < end; ++s) {
      for (auto v : g_.steps[static_cast<std::size_t>(s)].in) touch(v, s);
      for (auto v : g_.steps[static_cast<std::size_t>(s)].out) touch(v, s);
    }
  }

  /// An output that starts here may take the memory of an input that ends here, where the operator allows it.
  void share_in_place() {
    for (std::size_t s = 0; s < g_.steps.size(); ++s) {
      const auto& step = g_.steps[s];
      for (const auto& pair : step.op->in_place()) share(step, static_cast<std::int64_t>(s), pair);
    }
  }

  void share(const Step& step, std::int64_t s, const ops::InPlace& pair) {
    const auto o = static_cast<std::size_t>(pair.output), i = static_cast<std::size_t>(pair.input);
    if (o >= step.out.size() || i >= step.in.size() || step.out[o] == absent || step.in[i] == absent) return;
    if (step.write[o] != ops::Write::set) return;
    const auto out = block_of_[at(g_.root(step.out[o]))], in = block_of_[at(g_.root(step.in[i]))];
    if (out < 0 || in < 0 || out == in) return;
    auto& to = blocks_[static_cast<std::size_t>(out)];
    auto& from = blocks_[static_cast<std::size_t>(in)];
    if (to.first != s || from.last != s || from.bytes < to.bytes) return;
    // The input may be read by only this argument of the step, or the kernel would read what it has
    // overwritten.
    if (std::count_if(step.in.begin(), step.in.end(),
                      [&](ValueId v) { return v != absent && block_of_[at(g_.root(v))] == in; }) != 1)
      return;
    from.last = to.last;
    for (auto& b : block_of_)
      if (b == out) b = in;
    to = {};  // empty: placed nowhere
    ++in_place_;
  }

  void add_workspace(std::size_t s) {
    std::vector<Meta> in, out;
    for (auto v : g_.steps[s].in) in.push_back(v == absent ? Meta{} : g_.at(v).meta);
    for (auto v : g_.steps[s].out) out.push_back(v == absent ? Meta{} : g_.at(v).meta);
    const auto bytes = g_.steps[s].op->workspace_bytes(in, out);
    workspace_bytes_.push_back(bytes);
    workspace_block_.push_back(bytes ? static_cast<std::int64_t>(blocks_.size()) : -1);
    const auto step = static_cast<std::int64_t>(s);
    if (bytes)
      blocks_.push_back({.bytes = round_up(static_cast<std::int64_t>(bytes)), .first = step, .last = step});
  }

  /// First fit by decreasing size (the usual offline heuristic for "dynamic storage allocation").
  void place() {
    std::vector<std::size_t> order(blocks_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return blocks_[a].bytes > blocks_[b].bytes; });
    std::vector<std::size_t> placed;  // by offset
    for (auto id : order) {
      auto& block = blocks_[id];
      if (block.last < block.first || block.bytes == 0) continue;
      std::int64_t offset = 0;
      for (auto p : placed) {
        const auto& other = blocks_[p];
        if (!other.overlaps(block)) continue;
        if (other.offset - offset >= block.bytes) break;
        offset = std::max(offset, other.offset + other.bytes);
      }
      block.offset = offset;
      placed.insert(std::upper_bound(placed.begin(), placed.end(), id,
                                     [&](auto a, auto b) { return blocks_[a].offset < blocks_[b].offset; }),
                    id);
      arena_ = std::max(arena_, offset + block.bytes);
    }
  }

  MemoryPlan result() const {
    MemoryPlan plan;
    auto offset = [&](std::int64_t block) {
      return block < 0 ? -1 : blocks_[static_cast<std::size_t>(block)].offset;
    };
    for (auto b : block_of_) plan.offset.push_back(offset(b));
    for (auto b : workspace_block_) plan.workspace_offset.push_back(offset(b));
    plan.workspace_bytes = workspace_bytes_;
    plan.arena_bytes = static_cast<std::size_t>(arena_);
    plan.in_place = in_place_;
    std::vector<std::int64_t> change(g_.steps.size() + 3, 0);
    for (const auto& b : blocks_) {
      if (b.last < b.first) continue;
      change[static_cast<std::size_t>(b.first + 1)] += b.bytes;
      change[static_cast<std::size_t>(b.last + 2)] -= b.bytes;
    }
    std::int64_t live = 0, peak = 0;
    for (auto c : change) peak = std::max(peak, live += c);
    plan.live_peak_bytes = static_cast<std::size_t>(peak);
    return plan;
  }

  const Graph& g_;
  std::vector<Block> blocks_;
  std::vector<std::int64_t> block_of_, workspace_block_;
  std::vector<std::size_t> workspace_bytes_;
  std::int64_t arena_ = 0;
  int in_place_ = 0;
};

}  // namespace

MemoryPlan plan_memory(const Graph& graph) { return Planner(graph).run(); }

}  // namespace fairway::graph
