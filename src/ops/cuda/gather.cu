#include "cuda/launch.cuh"
#include "fairway/ops/embedding.h"

namespace fairway::ops::cuda {
namespace {

template <class Stored, class T, int V>
__global__ void __launch_bounds__(block_threads)
    gather_kernel(std::int64_t table_rows, std::int64_t columns, std::int64_t positions, const Stored* table,
                  const std::int32_t* index, Fault* fault, Out<T> y) {
  const std::int64_t row = warp_row();
  if (row >= positions) return;
  std::int64_t from = index[row];
  if (from < 0 || from >= table_rows) {
    note_fault(fault, Check::gather_row, from, table_rows);
    from = 0;
  }
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V)
    y.put(row * columns + i, load<V>(table + from * columns + i));
}

__global__ void bigram_kernel(std::int64_t n, std::int64_t length, std::int32_t modulus,
                              const std::int32_t* tokens, const std::int32_t* previous, std::int32_t* index,
                              bool add) {
  const std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (t >= n) return;
  const std::int32_t before = t % length ? tokens[t - 1] : previous ? previous[t / length] : -1;
  std::int32_t result = modulus;
  if (before != -1) {
    // Products wrap around in 32 bits, as the signed arithmetic of the original does.
    const auto hash = static_cast<std::int32_t>((36313u * static_cast<std::uint32_t>(tokens[t])) ^
                                                (27191u * static_cast<std::uint32_t>(before)));
    result = hash % modulus;
    if (result < 0) result += modulus;
  }
  index[t] = add ? index[t] + result : result;
}

}  // namespace

void gather(const KernelArgs& a) {
  if (!a.out[0]) return;
  const Shape& table = a.in[0].shape();
  const std::int64_t columns = table[1], positions = a.in[1].elements();
  dispatch(a, a.in[0], [&]<class Stored>(Stored) {
    dispatch(a, a.out[0], [&]<class T>(T) {
      const auto kernel = fits(columns, 8, {data(a, 0), a.out[0].data}) ? gather_kernel<Stored, T, 8>
                                                                        : gather_kernel<Stored, T, 1>;
      launch_rows(a, positions, kernel, table[0], columns, positions, in<Stored>(a, 0), integers(a, 1),
                  target(a).fault, out<T>(a, 0));
    });
  });
}

void bigram_index(const KernelArgs& a) {
  const Output index = output(a, 0);
  if (!index) return;
  const std::int64_t n = a.in[0].elements(), length = a.in[0].shape()[1];
  launch_elements(a, n, bigram_kernel, n, length, static_cast<const BigramIndex&>(a.op).rows - 1,
                  integers(a, 0), integers(a, 1), static_cast<std::int32_t*>(index.data), index.add);
}

}  // namespace fairway::ops::cuda
