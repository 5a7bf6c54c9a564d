#include "gemm.h"

#include <algorithm>
#include <cstddef>
#include <dnnl.hpp>
#include <exception>
#include <unordered_map>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/ops/registry.h"

// From omp.h, of which clang cannot read GCC's: the two OpenMP settings used here (OpenMP 5.2,
// sections 18.2.1, 18.2.3).
extern "C" {
void omp_set_num_threads(int threads);
int omp_get_max_threads();
}

namespace fairway::ops {
namespace {

/// While it lives, OpenMP regions that this thread opens have one thread. Restores the caller's setting.
class SingleThreaded {
 public:
  SingleThreaded() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~SingleThreaded() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  const int before_;
};

using dnnl::memory;

memory::desc matrix(std::int64_t rows, std::int64_t columns, memory::data_type type, std::int64_t ld,
                    bool transposed) {
  return {{rows, columns}, type, transposed ? memory::dims{1, ld} : memory::dims{ld, 1}};
}

/// One compiled bf16 product with its argument slots.
struct Product {
  dnnl::matmul primitive;
  memory a, b, c;
};

struct Key {
  GemmShape shape;
  bool add = false;
  bool operator==(const Key&) const = default;
};

struct KeyHash {
  std::size_t operator()(const Key& key) const {
    const GemmShape& s = key.shape;
    std::uint64_t h = (s.transpose_a ? 1u : 0u) + (s.transpose_b ? 2u : 0u) + (key.add ? 4u : 0u);
    for (std::int64_t v : {s.m, s.n, s.k, s.lda, s.ldb, s.ldc})
      h = (h ^ static_cast<std::uint64_t>(v)) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
    return h;
  }
};

/// The compiled products of one thread: oneDNN streams and memory handles are not for sharing.
class ProductCache {
 public:
  void run(const GemmShape& shape, const tensor::bf16* a, const tensor::bf16* b, bool add, float* c) {
    Product& p = find({shape, add});
    p.a.set_data_handle(const_cast<tensor::bf16*>(a));
    p.b.set_data_handle(const_cast<tensor::bf16*>(b));
    p.c.set_data_handle(c);
    p.primitive.execute(stream_, {{DNNL_ARG_SRC, p.a}, {DNNL_ARG_WEIGHTS, p.b}, {DNNL_ARG_DST, p.c}});
    stream_.wait();
  }

 private:
  static constexpr std::size_t capacity = 256;  // a model has some tens of tile shapes

  Product& find(const Key& key) {
    if (auto found = products_.find(key); found != products_.end()) return found->second;
    if (products_.size() >= capacity) products_.clear();
    return products_.emplace(key, compile(key)).first->second;
  }

  Product compile(const Key& key) {
    using Type = memory::data_type;
    const GemmShape& s = key.shape;
    const auto a = matrix(s.m, s.k, Type::bf16, s.lda, s.transpose_a);
    const auto b = matrix(s.k, s.n, Type::bf16, s.ldb, s.transpose_b);
    const auto c = matrix(s.m, s.n, Type::f32, s.ldc, false);
    dnnl::primitive_attr attributes;
    if (key.add) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine_, a, b, c, attributes);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine_);
#endif
    return {dnnl::matmul(description), {a, engine_, nullptr}, {b, engine_, nullptr}, {c, engine_, nullptr}};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::unordered_map<Key, Product, KeyHash> products_;
};

bool empty(const GemmShape& s) { return s.m == 0 || s.n == 0; }

}  // namespace

void gemm(const GemmShape& s, float alpha, const float* a, const float* b, float beta, float* c) {
  if (empty(s)) return;
  const SingleThreaded guard;
  const dnnl_status_t status = dnnl_sgemm(s.transpose_a ? 'T' : 'N', s.transpose_b ? 'T' : 'N', s.m, s.n, s.k,
                                          alpha, a, s.lda, b, s.ldb, beta, c, s.ldc);
  base::check(status == dnnl_success, "sgemm {} x {} x {} failed with status {}", s.m, s.n, s.k,
              static_cast<int>(status));
}

void gemm(const GemmShape& s, const tensor::bf16* a, const tensor::bf16* b, bool add, float* c) {
  if (empty(s)) return;
  static thread_local ProductCache cache;
  const SingleThreaded guard;
  try {
    cache.run(s, a, b, add, c);
  } catch (const dnnl::error& e) {
    base::fail("oneDNN cannot run a bf16 product of {} x {} x {}: {}", s.m, s.n, s.k, e.what());
  }
}

bool has_bf16_gemm() {
  // Instruction sets are bit masks in every version: a stronger one holds the bits of the weaker.
  const auto effective = static_cast<unsigned>(dnnl_get_effective_cpu_isa());
  const auto wanted = static_cast<unsigned>(dnnl_cpu_isa_avx512_core_bf16);
  return (effective & wanted) == wanted;
}

void pin_isa(base::Isa isa) {
  dnnl_cpu_isa_t limit = dnnl_cpu_isa_sse41;
  if (isa == base::Isa::avx2) limit = dnnl_cpu_isa_avx2;
  if (isa == base::Isa::avx512) limit = dnnl_cpu_isa_avx512_core;
  if (isa == base::Isa::avx512_bf16) limit = dnnl_cpu_isa_avx512_core_bf16;
  const dnnl_status_t status = dnnl_set_max_cpu_isa(limit);
  // A library built without this switch (other processors) has only one way to multiply.
  if (status == dnnl_unimplemented) return;
  if (status == dnnl_success) return;
  // oneDNN takes the setting once in a process, before its first product; asking for the same again is fine.
  if (dnnl_get_effective_cpu_isa() != limit)
    base::fail("instruction set {}: this process has run with another one already; use a process of its own",
               base::isa_name(isa));
}

}  // namespace fairway::ops

namespace fairway::ops::cpu {

void gemm(const GemmShape& s, double alpha, const double* a, const double* b, double beta, double* c) {
  const std::int64_t a_row = s.transpose_a ? 1 : s.lda, a_column = s.transpose_a ? s.lda : 1;
  std::vector<double> turned;  // b as [k, n], so that the innermost loop reads what lies together
  if (s.transpose_b) {
    turned.resize(static_cast<std::size_t>(s.k * s.n));
    for (std::int64_t j = 0; j < s.n; ++j)
      for (std::int64_t p = 0; p < s.k; ++p) turned[static_cast<std::size_t>(p * s.n + j)] = b[j * s.ldb + p];
  }
  const double* rows = s.transpose_b ? turned.data() : b;
  const std::int64_t ld = s.transpose_b ? s.n : s.ldb;
  for (std::int64_t i = 0; i < s.m; ++i)
    for (std::int64_t j = 0; j < s.n; ++j) c[i * s.ldc + j] = beta == 0 ? 0 : beta * c[i * s.ldc + j];
  constexpr std::int64_t in_cache = 64;  // rows of b; each sum is over p in its order all the same
  for (std::int64_t begin = 0; begin < s.k; begin += in_cache)
    for (std::int64_t i = 0; i < s.m; ++i) {
      double* __restrict row = c + i * s.ldc;
      const std::int64_t end = std::min(s.k, begin + in_cache);
      const auto factor = [&](std::int64_t p) { return alpha * a[i * a_row + p * a_column]; };
      std::int64_t p = begin;
      for (; p + 4 <= end; p += 4) {
        const double f0 = factor(p), f1 = factor(p + 1), f2 = factor(p + 2), f3 = factor(p + 3);
        const double *b0 = rows + p * ld, *b1 = b0 + ld, *b2 = b1 + ld, *b3 = b2 + ld;
        for (std::int64_t j = 0; j < s.n; ++j)
          row[j] = row[j] + f0 * b0[j] + f1 * b1[j] + f2 * b2[j] + f3 * b3[j];
      }
      for (; p < end; ++p)
        for (std::int64_t j = 0; j < s.n; ++j) row[j] += factor(p) * rows[p * ld + j];
    }
}

}  // namespace fairway::ops::cpu
