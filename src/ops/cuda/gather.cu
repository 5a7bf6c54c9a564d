#include "cuda/device.cuh"

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

void gather(const Target& t, Storage table_storage, Storage y_storage, std::int64_t table_rows,
            std::int64_t columns, std::int64_t positions, const void* table, const std::int32_t* index,
            Output y) {
  if (!y || positions == 0) return;
  with_storage(table_storage, [&](auto stored) {
    with_storage(y_storage, [&](auto zero) {
      using Stored = decltype(stored);
      using T = decltype(zero);
      const auto run = [&](auto kernel) {
        kernel<<<blocks_for(positions, block_warps), block_threads, 0, t.stream>>>(
            table_rows, columns, positions, static_cast<const Stored*>(table), index, t.fault, out<T>(y));
      };
      if (fits(columns, 8, {table, y.data}))
        run(gather_kernel<Stored, T, 8>);
      else
        run(gather_kernel<Stored, T, 1>);
    });
  });
}

void bigram_index(const Target& t, std::int64_t batch, std::int64_t length, int rows,
                  const std::int32_t* tokens, const std::int32_t* previous, Output index) {
  const std::int64_t n = batch * length;
  if (!index || n == 0) return;
  bigram_kernel<<<blocks_for(n, block_threads), block_threads, 0, t.stream>>>(
      n, length, rows - 1, tokens, previous, static_cast<std::int32_t*>(index.data), index.add);
}

}  // namespace fairway::ops::cuda
