#include "fairway/ops/activation.h"

#include "cpu/kernel.h"
#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

void leaky_relu_squared(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T* x = in<T>(a, 0);
    const auto y = out<T>(a, 0);
    const auto slope = splat<T>(static_cast<const LeakyReluSquared&>(a.op).slope);
    parallel_vectors<T>(a, a.in[0].elements(), grain, [&](std::int64_t i, auto part) {
      const auto v = load(x + i, part);
      const auto z = select(v > splat<T>(0), v, slope * v);
      y.put(i, part, z * z);
    });
  });
}

void leaky_relu_squared_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) {
    const T* x = in<T>(a, 0);
    const T* dy = in<T>(a, 1);
    const auto dx = out<T>(a, 0);
    const auto& op = static_cast<const LeakyReluSquaredBackward&>(a.op);
    const T s = op.slope;
    const auto two = splat<T>(2), below = splat<T>(2 * s * s);
    parallel_vectors<T>(a, a.in[0].elements(), grain, [&](std::int64_t i, auto part) {
      const auto v = load(x + i, part);
      const auto slope = select(v > splat<T>(0), two, below) * v;
      dx.put(i, part, slope * load(dy + i, part));
    });
  });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
