#pragma once
#include <string>

#include "fairway/quant/policy.h"

namespace fairway::quant {

/// A tensor of the published models, in the category that their scripts read from its name.
inline TensorInfo named(const std::string& name, tensor::Shape shape) {
  const auto has = [&](const char* part) { return name.find(part) != name.npos; };
  const auto category = has("tok_emb")                   ? Category::table
                        : has(".mlp.")                   ? Category::mlp
                        : has(".attn.") || has(".proj.") ? Category::attention
                                                         : Category::table;
  return {name, shape, category};
}
inline TensorInfo named(const std::string& name, std::int64_t elements) {
  return named(name, tensor::Shape{elements});
}

}  // namespace fairway::quant
