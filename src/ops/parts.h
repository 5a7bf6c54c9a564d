#pragma once
// For operators that run as parts of others: workspace cut from its front, and the rows that a deferred norm
// left out.

#include "fairway/ops/scale_rows.h"

namespace fairway::ops {

constexpr std::size_t rounded_up(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

/// An array at the front of a workspace, which becomes what is behind it.
inline View take(View& workspace, const Meta& meta) {
  const View taken{workspace.data, meta};
  workspace.data = static_cast<std::byte*>(workspace.data) + rounded_up(meta.bytes());
  return taken;
}

/// x with its rows times factor r, at the front of a workspace; `kernel` is ScaleRows'.
inline View scaled_rows(Kernel kernel, float factor, const View& x, const View& r, View& workspace,
                        const Context& context) {
  static constexpr Write set[] = {Write::set};
  const View scaled = take(workspace, x.meta), in[] = {x, r};
  kernel({ScaleRows(factor), in, std::span(&scaled, 1), set, {}, context});
  return scaled;
}

}  // namespace fairway::ops
