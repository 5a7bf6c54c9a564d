#pragma once
// Parameters live in flat buffers: one contiguous range for each group, in a stable order, so that an update,
// a clip, an average or an all-reduce is one pass. Parameters never move while a run lasts.

#include "fairway/base/range.h"
#include "fairway/tensor/buffer.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace fairway::graph {

/// Optimiser groups of the family (docs/spec/training.md section 3).
enum class Group : std::uint8_t { matrix, embedding, scalar };
constexpr int group_count = 3;

/// What a parameter is for: by this quantisers, QAT and test-time training choose.
enum class Role : std::uint8_t {
  embedding,   ///< rows looked up by token
  attention,   ///< projections and gains of heads
  mlp,         ///< its two matrices
  projection,  ///< from a narrow embedding to the stream or to the values
  scale,       ///< per channel, of what a block adds to the stream and of its mix with the first activations
  other,       ///< skip weights, gates, scalar factors, memory tokens
};

/// How a parameter starts (docs/spec/model.md section 14).
struct Start {
  enum class Kind : std::uint8_t {
    constant,    ///< value
    normal,      ///< of standard deviation value
    orthogonal,  ///< orthonormal rows (columns where it is tall), times value
    uniform,     ///< within +-1 / sqrt(columns)
    first_row,   ///< 1 in the first row, 0 in the others
  } kind = Kind::constant;
  double value = 0;
};

/// One named parameter and everything that is to be known about it: the model declares it once (make_layout).
struct Parameter {
  std::string name;
  tensor::Shape shape;
  Group group = Group::matrix;
  Role role = Role::other;
  Start start = {};
  int layer = -1;             ///< whose it is; -1: no layer's
  bool multiplied = false;    ///< matrix products read it: it has a compute weight
  std::string packed_into{};  ///< the matrix that holds its rows among others'; "": none
  std::int64_t offset = 0;    ///< first element in the flat buffers
  std::int64_t elements() const { return shape.elements(); }
  base::Range range() const { return {offset, offset + elements()}; }
};

/// Which parameters exist and where. Built once by the model; read-only afterwards.
class ParameterLayout {
 public:
  /// Adds one parameter. Names are unique.
  void add(Parameter parameter);
  /// Adds matrices of one width whose rows follow each other without padding, so that `packed` names them all
  /// as one matrix [sum of rows, columns] (query, key and value projections as one product).
  void add_packed(std::string packed, std::vector<Parameter> parts);
  /// Assigns offsets (groups in order, each parameter aligned to 64 bytes of fp32). Call once, after the last
  /// add.
  void finish();

  const std::vector<Parameter>& parameters() const noexcept { return parameters_; }
  /// A parameter or a packed alias; a check error for an unknown name.
  const Parameter& find(std::string_view name) const;
  bool contains(std::string_view name) const;
  /// Names covered by `name`: its parts when it is packed, itself otherwise.
  std::vector<std::string> parts(std::string_view name) const;
  /// What products read: each matrix with Parameter::multiplied, packed ones as one.
  std::vector<std::string> multiplied() const;
  base::Range range(Group group) const { return ranges_[static_cast<int>(group)]; }
  std::int64_t padded_elements() const noexcept { return total_; }
  std::int64_t count() const;  ///< parameters, padding not counted

 private:
  struct Packed {
    Parameter alias;
    std::vector<std::string> parts;
  };
  std::vector<Parameter> parameters_;
  std::vector<Packed> packed_;
  std::map<std::string, std::size_t, std::less<>> index_, packed_index_;
  base::Range ranges_[group_count];
  std::int64_t total_ = 0;
  bool finished_ = false;
};

/// The values of all parameters, and (when training) one gradient for each, on one device; and compute
/// weights, where products read something else than the values (rounded to bf16, fake-quantised, scaled).
class ParameterStore {
 public:
  ParameterStore(ParameterLayout layout, tensor::Device device, bool with_gradients,
                 tensor::DType dtype = tensor::DType::f32);

  const ParameterLayout& layout() const noexcept { return layout_; }
  tensor::DType dtype() const noexcept { return dtype_; }
  const tensor::Device& device() const noexcept { return values_.device(); }
  bool has_gradients() const noexcept { return gradients_.bytes() > 0; }

  tensor::View value(std::string_view name) const;     ///< of a parameter or packed alias
  tensor::View gradient(std::string_view name) const;  ///< absent without gradients
  /// Adds compute weights; their contents are undefined until a refresh program has run. Once.
  void add_compute_weights(tensor::DType dtype);
  bool has_compute_weights() const noexcept { return compute_.bytes() > 0; }
  tensor::View compute_weight(std::string_view name) const;  ///< the value itself where there are none
  tensor::View flat_values() const;                          ///< [padded_elements]
  tensor::View flat_gradients() const;
  void zero_gradients();
  std::size_t bytes() const noexcept { return values_.bytes() + gradients_.bytes() + compute_.bytes(); }

 private:
  tensor::View view(const tensor::Buffer& buffer, tensor::DType dtype, const Parameter& parameter) const;
  ParameterLayout layout_;
  tensor::DType dtype_, compute_dtype_;
  tensor::Buffer values_, gradients_, compute_;
};

}  // namespace fairway::graph
