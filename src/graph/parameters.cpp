#include "fairway/graph/parameters.h"

#include "fairway/base/error.h"
#include "fairway/tensor/cuda.h"

namespace fairway::graph {

using base::check;

void ParameterLayout::add(Parameter parameter) {
  check(!finished_ && !contains(parameter.name), "parameter '{}' added twice or too late", parameter.name);
  index_.emplace(parameter.name, parameters_.size());
  parameters_.push_back(std::move(parameter));
}

void ParameterLayout::add_packed(std::string packed, std::vector<Parameter> parts) {
  Packed entry;
  entry.alias = parts.front();
  entry.alias.name = packed;
  std::int64_t rows = 0;
  for (auto& part : parts) {
    check(part.shape.rank() == 2 && part.shape[1] == parts.front().shape[1], "'{}' packs '{}' of {}", packed,
          part.name, part.shape.str());
    rows += part.shape[0];
    entry.parts.push_back(part.name);
    part.packed_into = packed;
    add(std::move(part));
  }
  entry.alias.shape = {rows, entry.alias.shape[1]};
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

std::vector<std::string> ParameterLayout::multiplied() const {
  std::vector<std::string> names;
  for (const auto& p : parameters_) {
    if (!p.multiplied) continue;
    const auto& name = p.packed_into.empty() ? p.name : p.packed_into;
    if (names.empty() || names.back() != name) names.push_back(name);
  }
  return names;
}

std::int64_t ParameterLayout::count() const {
  std::int64_t n = 0;
  for (const auto& p : parameters_) n += p.elements();
  return n;
}

ParameterStore::ParameterStore(ParameterLayout layout, tensor::Device device, bool with_gradients,
                               tensor::DType dtype)
    : layout_(std::move(layout)), dtype_(dtype), compute_dtype_(dtype) {
  const auto bytes = static_cast<std::size_t>(layout_.padded_elements()) * tensor::size_of(dtype);
  values_ = tensor::Buffer(device, bytes);
  if (with_gradients) gradients_ = tensor::Buffer(device, bytes);
}

void ParameterStore::add_compute_weights(tensor::DType dtype) {
  check(!has_compute_weights(), "compute weights are there already");
  compute_dtype_ = dtype;
  compute_ =
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
tensor::View ParameterStore::compute_weight(std::string_view name) const {
  return has_compute_weights() ? view(compute_, compute_dtype_, layout_.find(name)) : value(name);
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
