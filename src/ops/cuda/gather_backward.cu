// Gradient of a table: positions grouped by row (a stable counting sort, no matter in which order blocks
// run), then summed in ascending order of positions, segment by segment.
#include "cuda/launch.cuh"
#include "gather_layout.h"

namespace fairway::ops::cuda {
namespace {

constexpr int chunk = static_cast<int>(GatherLayout::chunk),
              segment = static_cast<int>(GatherLayout::segment);

/// A row outside the table is noted and counted as row 0.
__device__ inline int row_of(const std::int32_t* index, std::int64_t t, std::int64_t rows, Fault* fault) {
  const int v = index[t];
  if (v >= 0 && v < rows) return v;
  note_fault(fault, Check::gather_row, v, rows);
  return 0;
}

/// Counts one chunk of positions by row, and gives each its rank among those of its row in the chunk. Warps
/// take turns, so ranks ascend with positions.
__global__ void __launch_bounds__(chunk)
    count_kernel(std::int64_t rows, std::int64_t positions, const std::int32_t* index, std::int32_t* counts,
                 std::int32_t* rank, bool in_shared, Fault* fault) {
  extern __shared__ std::int32_t shared[];
  std::int32_t* mine = counts + blockIdx.x * rows;
  std::int32_t* count = in_shared ? shared : mine;
  for (std::int64_t v = threadIdx.x; v < rows; v += chunk) count[v] = 0;
  const std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * chunk + threadIdx.x;
  const int row = t < positions ? row_of(index, t, rows, fault) : -1;
  const unsigned present = __ballot_sync(all_lanes, row >= 0);
  const unsigned peers = __match_any_sync(all_lanes, row), below = peers & ((1u << (threadIdx.x % 32)) - 1);
  __syncthreads();
  for (int turn = 0; turn < chunk / 32; ++turn) {
    if (turn == static_cast<int>(threadIdx.x) / 32 && row >= 0) {
      const std::int32_t before = count[row];
      rank[t] = before + __popc(below);
      __syncwarp(present);
      if (below == 0) count[row] = before + __popc(peers);
    }
    __syncthreads();
  }
  for (std::int64_t v = threadIdx.x; in_shared && v < rows; v += chunk) mine[v] = count[v];
}

/// counts[c][v] becomes the number in chunks before c; first[v + 1] the number in all.
__global__ void chunk_offsets(std::int64_t rows, std::int64_t chunks, std::int32_t* counts,
                              std::int32_t* first) {
  const std::int64_t v = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (v >= rows) return;
  std::int32_t before = 0;
#pragma unroll 8
  for (std::int64_t c = 0; c < chunks; ++c) {
    const std::int32_t n = counts[c * rows + v];
    counts[c * rows + v] = before;
    before += n;
  }
  first[v + 1] = before;
}

/// first[v] = number of positions of rows before v. One block.
__global__ void __launch_bounds__(1024) row_offsets(std::int64_t rows, std::int32_t* first) {
  __shared__ std::int32_t sums[1024];
  const std::int64_t each = (rows + 1023) / 1024, begin = threadIdx.x * each, end = min(begin + each, rows);
  std::int32_t mine = 0;
  for (std::int64_t v = begin; v < end; ++v) mine += first[v + 1];
  sums[threadIdx.x] = mine;
  for (int step = 1; step < 1024; step *= 2) {
    __syncthreads();
    const std::int32_t other = static_cast<int>(threadIdx.x) >= step ? sums[threadIdx.x - step] : 0;
    __syncthreads();
    sums[threadIdx.x] += other;
  }
  std::int32_t before = sums[threadIdx.x] - mine;
  if (threadIdx.x == 0) first[0] = 0;
  for (std::int64_t v = begin; v < end; ++v) {
    before += first[v + 1];
    first[v + 1] = before;
  }
}

__global__ void place(std::int64_t rows, std::int64_t positions, const std::int32_t* index,
                      const std::int32_t* counts, const std::int32_t* first, const std::int32_t* rank,
                      std::int32_t* order) {
  const std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (t >= positions) return;
  const int row = row_of(index, t, rows, nullptr);
  order[first[row] + counts[t / chunk * rows + row] + rank[t]] = static_cast<std::int32_t>(t);
}

/// A warp sums one segment of the sorted list, 32 V columns of it. Rows that end inside are written; of those
/// that cross a border the part in this segment goes to the head (begun before) or the tail (goes on after).
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    sum_segments(std::int64_t rows, std::int64_t positions, std::int64_t columns, const std::int32_t* index,
                 const std::int32_t* order, const T* dy, Out<float> dtable, float* sums) {
  const std::int64_t s = warp_row(), begin = s * segment;
  if (begin >= positions) return;
  const int lane = threadIdx.x % 32, count = static_cast<int>(min(std::int64_t{segment}, positions - begin));
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.y) * 32 * V + lane * V;
  const bool active = i < columns;
  // Positions and rows of the segment, one or two for each lane: the loop below loads nothing but dy.
  std::int32_t t[segment / 32], row[segment / 32];
#pragma unroll
  for (int part = 0; part < segment / 32; ++part) {
    const int k = part * 32 + lane;
    t[part] = k < count ? order[begin + k] : 0;
    row[part] = k < count ? row_of(index, t[part], rows, nullptr) : -1;
  }
  const auto of = [](const std::int32_t(&held)[segment / 32], int k) {
    return __shfl_sync(all_lanes, k < 32 ? held[0] : held[1], k % 32);
  };
  static_assert(segment == 64);
  const int previous = begin > 0 ? row_of(index, order[begin - 1], rows, nullptr) : -1;
  const int next = begin + count < positions ? row_of(index, order[begin + count], rows, nullptr) : -1;
  Floats<V> sum = filled<V>(0);
  int current = of(row, 0);
  bool begun_before = current == previous;
  const auto finish = [&](bool at_end) {
    if (!active) return;
    if (begun_before)
      store<V>(sums + 2 * s * columns + i, sum);
    else if (at_end && current == next)
      store<V>(sums + (2 * s + 1) * columns + i, sum);
    else
      dtable.put(current * columns + i, sum);
  };
  constexpr int ahead = 4;
  for (int first = 0; first < count; first += ahead) {
    Floats<V> g[ahead];
#pragma unroll
    for (int u = 0; u < ahead; ++u) {
      const std::int64_t from = of(t, min(first + u, count - 1));
      g[u] = active ? load<V>(dy + from * columns + i) : filled<V>(0);
    }
#pragma unroll
    for (int u = 0; u < ahead; ++u) {
      if (first + u >= count) break;
      const int now = of(row, first + u);
      if (now != current) {
        finish(false);
        current = now;
        begun_before = false;
        sum = filled<V>(0);
      }
      sum += g[u];
    }
  }
  finish(true);
}

/// Rows that cross segments: tail of the first, then the heads of the others in order. Rows without
/// positions: zero.
template <int V>
__global__ void __launch_bounds__(block_threads)
    join_segments(std::int64_t rows, std::int64_t columns, const std::int32_t* first, const float* sums,
                  Out<float> dtable) {
  const std::int64_t row = warp_row();
  if (row >= rows) return;
  const std::int64_t begin = first[row], end = first[row + 1];
  if (begin == end && dtable.add) return;
  const std::int64_t from = begin / segment, to = end > begin ? (end - 1) / segment : from;
  if (begin < end && from == to) return;
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> total = filled<V>(0);
    if (begin < end) {
      total = load<V>(sums + (2 * from + 1) * columns + i);
#pragma unroll 4
      for (std::int64_t s = from + 1; s <= to; ++s) {
        const Floats<V> part = load<V>(sums + 2 * s * columns + i);
#pragma unroll
        for (int j = 0; j < V; ++j) total.v[j] += part.v[j];
      }
    }
    dtable.put(row * columns + i, total);
  }
}

}  // namespace

void gather_backward(const KernelArgs& a) {
  if (!a.out[0]) return;
  const std::int64_t rows = a.in[0].shape()[0], columns = a.in[0].shape()[1], positions = a.in[1].elements();
  const std::int32_t* index = integers(a, 1);
  const cudaStream_t stream = target(a).stream;
  const GatherLayout layout = layout_gather_gradient(rows, positions, columns);
  auto* words = static_cast<std::int32_t*>(a.workspace.data);
  std::int32_t *counts = words, *first = words + layout.first, *rank = words + layout.rank,
               *order = words + layout.order;
  float* sums = reinterpret_cast<float*>(words + layout.sums);
  const std::int64_t count_bytes = rows * static_cast<std::int64_t>(sizeof(std::int32_t));
  const bool in_shared = count_bytes <= 48 * 1024;  // what a block may have without asking
  if (layout.chunks > 0)
    count_kernel<<<static_cast<unsigned>(layout.chunks), chunk,
                   in_shared ? static_cast<unsigned>(count_bytes) : 0u, stream>>>(
        rows, positions, index, counts, rank, in_shared, target(a).fault);
  launch_elements(a, rows, chunk_offsets, rows, layout.chunks, counts, first);
  row_offsets<<<1, 1024, 0, stream>>>(rows, first);
  launch_elements(a, positions, place, rows, positions, index, counts, first, rank, order);
  with_width(a, a.in[2], columns, {data(a, 2), a.out[0].data, sums}, [&]<class T, int V>(T, Constant<V>) {
    const dim3 grid(blocks_for(layout.segments, block_warps), blocks_for(columns, 32 * V));
    if (positions > 0)
      sum_segments<T, V><<<grid, block_threads, 0, stream>>>(rows, positions, columns, index, order,
                                                             in<T>(a, 2), out<float>(a, 0), sums);
    launch_rows(a, rows, join_segments<V>, rows, columns, first, sums, out<float>(a, 0));
  });
}

}  // namespace fairway::ops::cuda
