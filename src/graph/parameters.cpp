#include "fairway/graph/parameters.h"

#include "fairway/base/error.h"
#include "fairway/tensor/cuda.h"

namespace fairway::graph {

using base::check;

std::string_view group_name(Group group) {
  switch (group) {
    case Group::matrix:
      return "matrix";
    case Group::table:
      return "table";
    default:
      return "scalar";
  }
}

void ParameterLayout::add(std::string name, tensor::Shape shape, Group group) {
  check(!finished_ && !contains(name), "parameter '{}' added twice or too late", name);
  index_.emplace(name, parameters_.size());
  parameters_.push_back({std::move(name), shape, group, 0});
}

void ParameterLayout::add_packed(std::string packed, std::int64_t columns,
                                 std::vector<std::pair<std::string, std::int64_t>> parts) {
  Packed entry;
  std::int64_t rows = 0;
  for (auto& [name, part_rows] : parts) {
    add(name, {part_rows, columns}, Group::matrix);
    rows += part_rows;
    entry.parts.push_back(name);
  }
  entry.alias = {packed, {rows, columns}, Group::matrix, 0};
  packed_index_.emplace(std::move(packed), packed_.size());
  packed_.push_back(std::move(entry));
}

void ParameterLayout::finish() {
  check(!finished_, "layout finished twice");
  finished_ = true;
  constexpr std::int64_t align = 16;
  std::map<std::string, bool> joined;  // parts that follow their predecessor without padding
  for (const auto& p : packed_)
    for (std::size_t i = 1; i < p.parts.size(); ++i) joined[p.parts[i]] = true;
  for (int g = 0; g < group_count; ++g) {
    ranges_[g].begin = total_;
    for (auto& p : parameters_) {
      if (static_cast<int>(p.group) != g) continue;
      if (!joined.count(p.name)) total_ = (total_ + align - 1) / align * align;
      p.offset = total_;
      total_ += p.elements();
    }
    total_ = (total_ + align - 1) / align * align;
    ranges_[g].end = total_;
  }
  for (auto& p : packed_) p.alias.offset = find(p.parts.front()).offset;
}

const Parameter& ParameterLayout::find(std::string_view name) const {
  if (auto it = index_.find(name); it != index_.end()) return parameters_[it->second];
  auto it = packed_index_.find(name);
  check(it != packed_index_.end(), "no parameter '{}'", name);
  return packed_[it->second].alias;
}

bool ParameterLayout::contains(std::string_view name) const {
  return index_.find(name) != index_.end() || packed_index_.find(name) != packed_index_.end();
}

std::vector<std::string> ParameterLayout::parts(std::string_view name) const {
  if (auto it = packed_index_.find(name); it != packed_index_.end()) return packed_[it->second].parts;
  return {std::string(name)};
}

std::int64_t ParameterLayout::count() const {
  std::int64_t n = 0;
  for (const auto& p : parameters_) n += p.elements();
  return n;
}

ParameterStore::ParameterStore(ParameterLayout layout, tensor::Device device, bool with_gradients,
                               tensor::DType dtype)
    : layout_(std::move(layout)), dtype_(dtype), working_dtype_(dtype) {
  const auto bytes = static_cast<std::size_t>(layout_.padded_elements()) * tensor::size_of(dtype);
  values_ = tensor::Buffer(device, bytes);
  if (with_gradients) gradients_ = tensor::Buffer(device, bytes);
}

void ParameterStore::add_working_copy(tensor::DType dtype) {
  check(!has_working_copy(), "a second working copy");
  working_dtype_ = dtype;
  working_ =
      tensor::Buffer(device(), static_cast<std::size_t>(layout_.padded_elements()) * tensor::size_of(dtype));
}

tensor::View ParameterStore::view(const tensor::Buffer& buffer, tensor::DType dtype,
                                  const Parameter& parameter) const {
  if (!buffer.bytes()) return {};
  return buffer.view(static_cast<std::size_t>(parameter.offset) * tensor::size_of(dtype),
                     {dtype, parameter.shape});
}

tensor::View ParameterStore::value(std::string_view name) const {
  return view(values_, dtype_, layout_.find(name));
}
tensor::View ParameterStore::working(std::string_view name) const {
  return has_working_copy() ? view(working_, working_dtype_, layout_.find(name)) : value(name);
}
tensor::View ParameterStore::gradient(std::string_view name) const {
  return view(gradients_, dtype_, layout_.find(name));
}

tensor::View ParameterStore::flat_values() const {
  return values_.view(0, {dtype_, {layout_.padded_elements()}});
}

tensor::View ParameterStore::flat_gradients() const {
  if (!has_gradients()) return {};
  return gradients_.view(0, {dtype_, {layout_.padded_elements()}});
}

void ParameterStore::zero_gradients() { tensor::zero_bytes(device(), gradients_.data(), gradients_.bytes()); }

}  // namespace fairway::graph
