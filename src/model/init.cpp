// Initial values (docs/spec/model.md section 14) from our own counter-based stream.

#include "fairway/base/random.h"
#include "fairway/model/family.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <cmath>
#include <functional>
#include <span>
#include <vector>

namespace fairway::model {

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void fill_normal(const base::Random& random, std::span<double> out) {
  for (std::size_t i = 0; i < out.size(); i += 2) {
    const auto pair = random.normal_pair(i / 2);
    out[i] = pair[0];
    if (i + 1 < out.size()) out[i + 1] = pair[1];
  }
}

Matrix gaussian(std::int64_t rows, std::int64_t columns, const base::Random& random) {
  Matrix g(rows, columns);
  fill_normal(random, {g.data(), static_cast<std::size_t>(g.size())});
  return g;
}

/// Orthonormal rows (or columns when tall), uniformly distributed: the Q of a Gaussian matrix whose R has a
/// positive diagonal, found by Cholesky of the Gram matrix (in double: the Gram matrix squares the condition
/// number).
Matrix orthogonal(std::int64_t rows, std::int64_t columns, const base::Random& random) {
  const bool tall = rows >= columns;
  Matrix g = gaussian(rows, columns, random);
  const std::int64_t n = tall ? columns : rows;
  Matrix gram = Matrix::Zero(n, n);
  if (tall)
    gram.selfadjointView<Eigen::Lower>().rankUpdate(g.transpose());
  else
    gram.selfadjointView<Eigen::Lower>().rankUpdate(g);
  const Eigen::LLT<Matrix, Eigen::Lower> llt(gram);
  if (tall)
    llt.matrixU().solveInPlace<Eigen::OnTheRight>(g);
  else
    llt.matrixL().solveInPlace(g);
  return g;
}

/// Every value passes through bf16 once, as in the originals.
void store(graph::ParameterStore& to, const graph::Parameter& p,
           const std::function<double(std::int64_t)>& value) {
  const auto fill = [&](auto flat) {
    for (std::int64_t i = 0; i < p.elements(); ++i)
      flat[static_cast<std::size_t>(p.offset + i)] = tensor::round_to_bf16(static_cast<float>(value(i)));
  };
  if (to.dtype() == tensor::DType::f64)
    fill(to.flat_values().span<double>());
  else
    fill(to.flat_values().span<float>());
}

void start(graph::ParameterStore& to, const graph::Parameter& p, std::uint64_t seed) {
  using Kind = graph::Start::Kind;
  const base::Random random(seed, "init/" + p.name);
  const auto value = p.start.value;
  switch (p.start.kind) {
    case Kind::constant:
      return store(to, p, [&](std::int64_t) { return value; });
    case Kind::first_row:
      return store(to, p, [&](std::int64_t i) { return i < p.shape[1] ? 1.0 : 0.0; });
    case Kind::normal: {
      std::vector<double> values(static_cast<std::size_t>(p.elements()));
      fill_normal(random, values);
      return store(to, p, [&](std::int64_t i) { return value * values[static_cast<std::size_t>(i)]; });
    }
    case Kind::uniform: {
      const double bound = 1.0 / std::sqrt(static_cast<double>(p.shape[1]));
      return store(to, p, [&](std::int64_t i) {
        return bound * (2.0 * random.uniform(static_cast<std::uint64_t>(i)) - 1.0);
      });
    }
    case Kind::orthogonal: {
      const auto q = orthogonal(p.shape[0], p.shape[1], random);
      return store(to, p, [&](std::int64_t i) { return value * q.data()[i]; });
    }
  }
}

}  // namespace

void initialise(graph::ParameterStore& store, std::uint64_t seed, base::ThreadPool& pool) {
  const auto& parameters = store.layout().parameters();
  pool.run(static_cast<std::int64_t>(parameters.size()),
           [&](std::int64_t i) { start(store, parameters[static_cast<std::size_t>(i)], seed); });
}

}  // namespace fairway::model
