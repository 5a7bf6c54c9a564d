// What a configuration decides before anything is recorded: which layer runs when, and the rotation angles.

#include "fairway/model/family.h"

#include <algorithm>
#include <cmath>

namespace fairway::model {

using tensor::DType;
using tensor::Meta;

namespace {

/// The layers in the order in which they run.
std::vector<int> order_of(const ModelConfig& c, bool looped) {
  std::vector<int> order;
  for (int l = 0; l < c.layers; ++l) {
    order.push_back(l);
    if (looped && !c.loop_layers.empty() && l == c.loop_layers.back())
      for (int run = 1; run < c.loop_runs; ++run)
        order.insert(order.end(), c.loop_layers.begin(), c.loop_layers.end());
  }
  return order;
}

Topology topology_of(const ModelConfig& c, int layer) {
  if (!std::ranges::count(c.parallel_layers, layer)) return Topology::sequential;
  return c.parallel == Parallel::lanes ? Topology::lanes : Topology::sum;
}

}  // namespace

std::vector<Slot> execution_slots(const ModelConfig& c, bool looped) {
  const auto order = order_of(c, looped);
  const int saved = c.unet_skips ? c.encoder_slots(looped) : 0;
  std::vector<Slot> slots;
  for (int i = 0; i < static_cast<int>(order.size()); ++i) {
    const int l = order[static_cast<std::size_t>(i)];
    const int from_middle = i - saved;  // the second half takes from the middle outwards
    const auto runs = std::count(order.begin(), order.begin() + i, l);
    slots.push_back({.layer = l,
                     .depth = l,
                     .last = i + 1 == static_cast<int>(order.size()),
                     .saved = i < saved,
                     .skip = from_middle >= 0 && from_middle < saved ? from_middle : -1,
                     .cache = fmt::format("blocks.{}{}", l, runs ? fmt::format(".run{}", runs + 1) : ""),
                     .topology = topology_of(c, l)});
  }
  return slots;
}

std::shared_ptr<const tensor::Array> rope_table(const ModelConfig& c, int length, int context, DType dtype) {
  const int half = c.rope_dims / 2;
  double base = c.rope_base;
  if (c.rope_rescale_length > 0 && context > c.rope_rescale_length && c.rope_dims > 2)
    base *= std::pow(static_cast<double>(context) / c.rope_rescale_length, c.rope_dims / (c.rope_dims - 2.0));
  auto table = std::make_shared<tensor::Array>(Meta{dtype, {length, c.rope_dims}});
  auto store = [&](std::size_t i, double value) {
    if (dtype == DType::f64)
      table->span<double>()[i] = value;
    else
      table->span<float>()[i] = static_cast<float>(value);
  };
  for (int t = 0; t < length; ++t)
    for (int i = 0; i < half; ++i) {
      const double angle = t * std::pow(base, -2.0 * i / c.rope_dims);
      const auto row = static_cast<std::size_t>(t) * static_cast<std::size_t>(c.rope_dims);
      store(row + static_cast<std::size_t>(i), std::cos(angle));
      store(row + static_cast<std::size_t>(half + i), std::sin(angle));
    }
  return table;
}

}  // namespace fairway::model
