// Initial values (spec/model.md section 14) from our own counter-based stream.

#include "fairway/base/random.h"
#include "fairway/model/family.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <cmath>
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

class Initialiser {
 public:
  Initialiser(graph::ParameterStore& store, const ModelConfig& config, std::uint64_t seed)
      : c_(config), seed_(seed) {
    if (store.dtype() == tensor::DType::f64)
      doubles_ = store.flat_values().span<double>();
    else
      floats_ = store.flat_values().span<float>();
  }

  void operator()(const graph::Parameter& p) const {
    const auto name = std::string_view(p.name);
    const base::Random random(seed_, "init/" + p.name);
    if (name == "tok_emb.weight") return normal(p, random, c_.embed_init_std);
    if (name == "ve_shared.embed.weight") return normal(p, random, c_.ve_init_std);
    if (name == "memory_tokens") return normal(p, random, 0.02f);  // PR 398
    if (name == "resid_mix" || name.ends_with(".resid_mix")) return mix(p);
    if (name.ends_with(".q_gain")) return constant(p, c_.q_gain_init);
    if (name == "bigram.scale") return constant(p, 0.05f);
    if (name == "ve_shared.scale") return constant(p, 0.1f);
    if (name == "bigram.embed.weight" || name == "smear.gate") return constant(p, 0.0f);
    if (p.group == graph::Group::matrix) return matrix(p, random);
    constant(p, 1.0f);  // attn_scale, mlp_scale, skip_weights, ve_layer_scales
  }

 private:
  /// Every value passes through bf16 once, as in the originals.
  void store(const graph::Parameter& p, std::int64_t i, double value) const {
    const float rounded = tensor::round_to_bf16(static_cast<float>(value));
    const auto at = static_cast<std::size_t>(p.offset + i);
    if (!doubles_.empty())
      doubles_[at] = rounded;
    else
      floats_[at] = rounded;
  }
  void constant(const graph::Parameter& p, float value) const {
    for (std::int64_t i = 0; i < p.elements(); ++i) store(p, i, value);
  }
  void normal(const graph::Parameter& p, const base::Random& random, float std) const {
    std::vector<double> values(static_cast<std::size_t>(p.elements()));
    fill_normal(random, values);
    for (std::int64_t i = 0; i < p.elements(); ++i) store(p, i, std * values[static_cast<std::size_t>(i)]);
  }
  void mix(const graph::Parameter& p) const {
    for (std::int64_t i = 0; i < p.elements(); ++i) store(p, i, i < p.shape[1] ? 1.0 : 0.0);
  }
  void matrix(const graph::Parameter& p, const base::Random& random) const {
    const auto name = std::string_view(p.name);
    const bool in_block = name.starts_with("blocks.");
    if (in_block && (name.ends_with("attn.proj.weight") || name.ends_with("mlp.proj.weight")))
      return constant(p, 0.0f);
    const auto rows = p.shape[0], columns = p.shape[1];
    if (c_.matrix_init == MatrixInit::uniform) {
      const double bound = 1.0 / std::sqrt(static_cast<double>(columns));
      for (std::int64_t i = 0; i < p.elements(); ++i)
        store(p, i, bound * (2.0 * random.uniform(static_cast<std::uint64_t>(i)) - 1.0));
      return;
    }
    // The two shared projections carry the depth scale 1/sqrt(2L).
    const double gain = in_block ? 1.0 : 1.0 / std::sqrt(2.0 * c_.layers);
    const auto q = orthogonal(rows, columns, random);
    for (std::int64_t i = 0; i < p.elements(); ++i) store(p, i, gain * q.data()[i]);
  }

  std::span<float> floats_;
  std::span<double> doubles_;
  const ModelConfig& c_;
  const std::uint64_t seed_;
};

}  // namespace

void initialise(graph::ParameterStore& store, const ModelConfig& config, std::uint64_t seed,
                base::ThreadPool& pool) {
  const auto& parameters = store.layout().parameters();
  const Initialiser init(store, config, seed);
  pool.run(static_cast<std::int64_t>(parameters.size()),
           [&](std::int64_t i) { init(parameters[static_cast<std::size_t>(i)]); });
}

}  // namespace fairway::model
