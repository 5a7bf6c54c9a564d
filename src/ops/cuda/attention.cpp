#include "cuda/attention.h"

#include <cmath>

#include "attention_tiling.h"
#include "cuda/args.h"
#include "cuda/state.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/residual.h"

namespace fairway::ops::cuda {
namespace {

AttentionShape sizes(const KernelArgs& a, const HeadShape& h) {
  const Shape &q = a.in[0].shape(), &k = a.in[1].shape();
  AttentionShape s;
  s.batch = static_cast<int>(q[0]);
  s.queries = static_cast<int>(q[1]);
  s.keys = static_cast<int>(k[1]);
  s.heads = h.heads;
  s.kv_heads = h.kv_heads;
  s.head_dim = h.head_dim;
  s.scale = 1.0f / std::sqrt(static_cast<float>(h.head_dim));
  return s;
}

bool is_narrow(const KernelArgs& a, const HeadShape& h) {
  const bool narrow = is_bf16(a, a.in[0]);
  base::check(!narrow || h.head_dim == bf16_head_dim,
              "{}: in bf16 a GPU has heads of {} columns only, not {}", a.op.name(), bf16_head_dim,
              h.head_dim);
  return narrow;
}

/// Takes parts of the workspace in the order of DeviceAttention.
class Scratch {
 public:
  explicit Scratch(const KernelArgs& a) : at_(static_cast<std::byte*>(a.workspace.data)) {}
  void* take(std::size_t bytes) {
    void* p = at_;
    at_ += (bytes + 255) / 256 * 256;
    return p;
  }

 private:
  std::byte* at_;
};

/// The kernels write all outputs in full: an output that is added to, or that nobody wants, goes through
/// scratch.
class Results {
 public:
  Results(const KernelArgs& a, Scratch& scratch, std::size_t count) : a_(a) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t bytes = a.op.infer(metas(a))[i].bytes();
      void* spare = scratch.take(bytes);
      direct_.push_back(a.out[i].data && a.write[i] == Write::set);
      to_.push_back(direct_[i] ? a.out[i].data : spare);
    }
  }
  void* operator[](std::size_t i) const { return to_[i]; }
  void finish() const {
    for (std::size_t i = 0; i < to_.size(); ++i) {
      if (direct_[i] || !a_.out[i]) continue;
      const View spare{to_[i], a_.out[i].meta};
      copy({Copy(), {&spare, 1}, a_.out.subspan(i, 1), a_.write.subspan(i, 1), {}, a_.context});
    }
  }

 private:
  static std::vector<Meta> metas(const KernelArgs& a) {
    std::vector<Meta> in;
    for (const View& v : a.in) in.push_back(v ? v.meta : Meta{});
    return in;
  }
  const KernelArgs& a_;
  std::vector<bool> direct_;
  std::vector<void*> to_;
};

}  // namespace

void attention(const KernelArgs& a) {
  const auto& op = static_cast<const Attention&>(a.op);
  const HeadShape& h = op.shape;
  AttentionShape s = sizes(a, h);
  s.unit_keys = op.unit_keys;
  const auto stream = target(a).stream;
  Scratch scratch(a);
  const Results to(a, scratch, 2);
  auto* lse = static_cast<float*>(to[1]);
  check_cuda(
      is_narrow(a, h)
          ? attention_forward(s, data(a, 0), data(a, 1), data(a, 2), integers(a, 3), to[0], lse, stream)
          : attention_forward_plain(s, floats(a, 0), floats(a, 1), floats(a, 2), integers(a, 3),
                                    static_cast<float*>(to[0]), lse, stream),
      a.op.name());
  to.finish();
}

void attention_backward(const KernelArgs& a) {
  const HeadShape& h = static_cast<const AttentionBackward&>(a.op).shape;
  const AttentionShape s = sizes(a, h);
  const auto stream = target(a).stream;
  Scratch scratch(a);
  const Results to(a, scratch, 3);
  if (is_narrow(a, h)) {
    const std::size_t bytes = attention_backward_workspace(s),
                      room = device_backward_bytes(h, a.in[0].shape(), a.in[1].shape()[1]);
    base::check(bytes <= room, "{}: the kernel wants {} bytes of workspace, the rule gives {}", a.op.name(),
                bytes, room);
    check_cuda(attention_backward(s, data(a, 0), data(a, 1), data(a, 2), integers(a, 3), data(a, 4),
                                  floats(a, 5), data(a, 6), to[0], to[1], to[2], scratch.take(bytes), stream,
                                  a.context.cuda->impl().deterministic),
               a.op.name());
  } else {
    auto* delta = static_cast<float*>(scratch.take(a.in[5].bytes()));
    check_cuda(
        attention_backward_plain(s, floats(a, 0), floats(a, 1), floats(a, 2), integers(a, 3), floats(a, 4),
                                 floats(a, 5), floats(a, 6), static_cast<float*>(to[0]),
                                 static_cast<float*>(to[1]), static_cast<float*>(to[2]), delta, stream),
        a.op.name());
  }
  to.finish();
}

}  // namespace fairway::ops::cuda
