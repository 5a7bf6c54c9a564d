#pragma once
// Which parameters a phase trains, and with which learning rates.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/adapt/protocol.h"
#include "fairway/graph/parameters.h"
#include "fairway/model/config.h"
#include "fairway/optim/optimizer.h"

namespace fairway::adapt {

struct Selection {
  std::vector<std::string> names = {};  ///< trained parameters, in the layout's order
  std::int64_t elements = 0;            ///< padding not counted
  /// By storage; neighbours with equal rates are one range.
  std::vector<optim::ParamGroup> groups;
  double grad_clip = 0;
  bool contains(std::string_view name) const;
};

/// What `phase` trains, and its rule. Input errors: a selector or a group that fits nothing, or only parts of
/// a packed matrix.
Selection select(const Phase& phase, const graph::ParameterLayout& layout, const model::ModelConfig& config,
                 tensor::DType tables);

}  // namespace fairway::adapt
