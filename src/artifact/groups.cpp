#include "groups.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "fairway/base/thread_pool.h"
#include "row_order.h"
#include "sections.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

// One byte of section `weights:layout` for each integer tensor.
constexpr std::uint8_t kInStream = 1, kBegins = 2, kSorted = 4, kTransposed = 8;

/// A smaller group is not worth a section: its entry in the table alone takes 45 bytes.
constexpr std::size_t kLeastStream = 8192;

/// Integer tensors [first, first + count), in stored order.
struct Group {
  std::size_t first = 0, count = 0, bytes = 0;
  std::uint8_t layout = 0;
};

std::size_t rows_of(const StoredTensor& t) { return static_cast<std::size_t>(t.rows()); }

std::vector<Group> groups_of(std::span<const StoredTensor* const> integers) {
  std::vector<Group> groups;
  const auto same = [](const StoredTensor& a, const StoredTensor& b) {
    return a.kind == b.kind && strip_layer_number(a.name) == strip_layer_number(b.name);
  };
  for (std::size_t i = 0; i < integers.size(); ++i) {
    if (i == 0 || !same(*integers[i - 1], *integers[i])) groups.push_back({i, 0, 0, 0});
    ++groups.back().count;
    groups.back().bytes += integers[i]->q.size();
  }
  for (auto& g : groups)
    if (g.bytes >= kLeastStream) g.layout = kInStream;
  return groups;
}

using Order = std::vector<std::uint16_t>;  // empty: rows as they are

/// The integers of a group as its layout says.
std::vector<std::byte> stream_of(const Group& group, std::uint8_t layout,
                                 std::span<const StoredTensor* const> integers,
                                 std::span<const Order> orders) {
  std::vector<std::byte> stream(group.bytes);
  std::size_t at = 0;
  for (std::size_t i = group.first; i < group.first + group.count; ++i) {
    const auto& t = *integers[i];
    Arrangement how;
    if (layout & kSorted) how.order = orders[i];
    how.transposed = layout & kTransposed;
    arrange(std::as_bytes(std::span(t.q)), rows_of(t), how, std::span(stream).subspan(at, t.q.size()));
    at += t.q.size();
  }
  return stream;
}

/// Bytes of the orders of a group's rows: what is sorted must win them back.
std::size_t order_bytes(const Group& group, std::span<const Order> orders) {
  std::size_t bits = 0;
  for (std::size_t i = group.first; i < group.first + group.count; ++i)
    bits += orders[i].size() * static_cast<std::size_t>(std::bit_width(orders[i].size()));
  return bits / 8;
}

/// Sets each group's layout to the one that a fast coder makes smallest.
void choose_layouts(std::span<Group> groups, std::span<const StoredTensor* const> integers,
                    std::span<const Order> orders, base::ThreadPool& pool) {
  constexpr Coder fast = Coder::brotli;
  constexpr int fast_level = 5;
  constexpr std::array<std::uint8_t, 4> layouts{kInStream, kInStream | kTransposed, kInStream | kSorted,
                                                kInStream | kSorted | kTransposed};
  std::vector<std::size_t> sizes(groups.size() * layouts.size());
  pool.run(static_cast<std::int64_t>(sizes.size()), [&](std::int64_t job) {
    const auto at = static_cast<std::size_t>(job);
    const Group& group = groups[at / layouts.size()];
    const auto layout = layouts[at % layouts.size()];
    if (!group.layout) return;
    sizes[at] = encode(fast, stream_of(group, layout, integers, orders), fast_level).size();
    if (layout & kSorted) sizes[at] += order_bytes(group, orders);
  });
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (!groups[g].layout) continue;
    const auto first = sizes.begin() + static_cast<std::ptrdiff_t>(g * layouts.size());
    const auto best = std::min_element(first, first + layouts.size());  // the plainer one of equals
    groups[g].layout = layouts[static_cast<std::size_t>(best - first)];
  }
}

/// The smallest of each stream, coded by all coders that the options name.
std::vector<Coded> code_streams(std::span<const Group* const> streams,
                                std::span<const StoredTensor* const> integers, std::span<const Order> orders,
                                const WriteOptions& options, base::ThreadPool& pool) {
  const auto coders = coders_of(options.coder);
  std::vector<Coded> tries(streams.size() * coders.size());
  pool.run(static_cast<std::int64_t>(tries.size()), [&](std::int64_t job) {
    const auto at = static_cast<std::size_t>(job);
    const Group& group = *streams[at / coders.size()];
    tries[at] = encode_smaller(coders[at % coders.size()], stream_of(group, group.layout, integers, orders),
                               options.level);
  });
  std::vector<Coded> best;
  for (std::size_t i = 0; i < tries.size(); ++i) {
    if (i % coders.size() == 0)
      best.push_back(std::move(tries[i]));
    else if (tries[i].bytes.size() < best.back().bytes.size())
      best.back() = std::move(tries[i]);
  }
  return best;
}

std::string stream_name(std::size_t number) { return kStreamPrefix + std::to_string(number); }

}  // namespace

void add_grouped_weights(ContainerWriter& writer, std::span<const StoredTensor> tensors,
                         const WriteOptions& options) {
  const auto whole = encode_weights(tensors, options.planes);
  std::vector<const StoredTensor*> integers;
  std::size_t integer_bytes = 0;
  for (const std::size_t i : storage_order(tensors))
    if (is_integer(tensors[i].kind)) integers.push_back(&tensors[i]), integer_bytes += tensors[i].q.size();
  base::ThreadPool pool(options.threads);
  auto groups = groups_of(integers);
  std::vector<Order> orders(integers.size());
  std::vector<std::size_t> sorted;
  for (const auto& g : groups)
    for (std::size_t i = g.first; g.layout && i < g.first + g.count; ++i) {
      const auto rows = rows_of(*integers[i]);
      if (sortable(rows, integers[i]->q.size() / rows)) sorted.push_back(i);
    }
  pool.run(static_cast<std::int64_t>(sorted.size()), [&](std::int64_t job) {
    const auto i = sorted[static_cast<std::size_t>(job)];
    const auto rows = rows_of(*integers[i]);
    orders[i] = similarity_order(integers[i]->q, rows, integers[i]->q.size() / rows);
  });
  choose_layouts(groups, integers, orders, pool);

  const std::size_t start = integers_at(tensors, whole);
  base::ByteWriter rest, layout, order;
  rest.write_bytes(std::span(whole).first(start));
  std::vector<const Group*> streams;
  for (const auto& g : groups) {
    if (g.layout) streams.push_back(&g);
    for (std::size_t i = g.first; i < g.first + g.count; ++i) {
      layout.write(static_cast<std::uint8_t>(g.layout | (g.layout && i == g.first ? kBegins : 0)));
      if (!g.layout) rest.write_bytes(std::as_bytes(std::span(integers[i]->q)));
      if (g.layout & kSorted) order.write_bytes(std::as_bytes(std::span(orders[i])));
    }
  }
  rest.write_bytes(std::span(whole).subspan(start + integer_bytes));
  auto coded = code_streams(streams, integers, orders, options, pool);
  auto plain = options;
  plain.shuffle = 1;
  auto pairs = options;
  pairs.shuffle = sizeof(std::uint16_t);  // low bytes, then high ones
  writer.require_feature(kFeatureGroups);
  writer.add(kWeights, true, rest.bytes(), options);
  writer.add(kLayout, true, layout.bytes(), plain);
  writer.add(kOrder, true, order.bytes(), pairs);
  for (std::size_t k = 0; k < streams.size(); ++k)
    writer.add_coded(stream_name(k), true, streams[k]->bytes, std::move(coded[k]), 1);
}

namespace {

/// What the layout says of one integer tensor, and where its integers stand.
struct Place {
  std::size_t rows = 0, bytes = 0;
  std::size_t stream = 0;  ///< number of its stream, if its layout says kInStream
  std::uint8_t layout = 0;
  Order order;
};

/// Reads the layout: one byte for each integer tensor of the directory.
std::vector<Place> read_layout(const Container& c, std::span<const StoredTensor> directory,
                               std::uint64_t& streams) {
  const auto& section = c.at(kLayout);
  std::vector<Place> places;
  for (const auto& t : directory)
    if (is_integer(t.kind)) places.push_back({rows_of(t), static_cast<std::size_t>(t.elements()), 0, 0, {}});
  if (section.raw_bytes != places.size())
    base::fail_input("{}: section '{}' has {} bytes for {} integer tensors", c.what, kLayout,
                     section.raw_bytes, places.size());
  const auto bytes = c.decoded(section, places.size());
  for (std::size_t i = 0; i < places.size(); ++i) {
    auto& p = places[i];
    p.layout = static_cast<std::uint8_t>(bytes.span()[i]);
    const bool in_stream = p.layout & kInStream, begins = p.layout & kBegins;
    const bool follows = i > 0 && (places[i - 1].layout & kInStream);
    if (p.layout >= 2 * kTransposed || (!in_stream && p.layout != 0) || (in_stream && !begins && !follows) ||
        ((p.layout & kSorted) && !sortable(p.rows, p.bytes / p.rows)))
      base::fail_input("{}: damaged: layout {} of integer tensor {}", c.what, p.layout, i);
    if (begins) ++streams;
    if (in_stream) p.stream = static_cast<std::size_t>(streams - 1);
  }
  return places;
}

/// Reads the orders of the rows of sorted tensors; each must be a permutation.
void read_orders(const Container& c, std::span<Place> places) {
  const auto& section = c.at(kOrder);
  std::uint64_t expected = 0;
  for (const auto& p : places)
    if (p.layout & kSorted) expected += sizeof(std::uint16_t) * p.rows;
  if (section.raw_bytes != expected)
    base::fail_input("{}: section '{}' has {} bytes, {} expected", c.what, kOrder, section.raw_bytes,
                     expected);
  const auto bytes = c.decoded(section, expected);
  base::ByteReader in(bytes.span(), c.what);
  for (std::size_t i = 0; i < places.size(); ++i) {
    auto& p = places[i];
    if (!(p.layout & kSorted)) continue;
    p.order.resize(p.rows);
    std::memcpy(p.order.data(), in.take(sizeof(std::uint16_t) * p.rows).data(),
                sizeof(std::uint16_t) * p.rows);
    std::vector<bool> seen(p.rows);
    for (const auto row : p.order) {
      if (row >= p.rows || seen[row])
        base::fail_input("{}: damaged: the order of the rows of integer tensor {} is no permutation", c.what,
                         i);
      seen[row] = true;
    }
  }
}

/// Nothing that nobody reads may stand in a file.
void check_held(const Container& c, std::uint64_t expected) {
  const auto held =
      std::ranges::count_if(c.sections, [](const Section& s) { return s.name.starts_with(kStreamPrefix); });
  if (static_cast<std::uint64_t>(held) != expected)
    base::fail_input("{}: {} sections '{}*', {} expected", c.what, held, kStreamPrefix, expected);
}

/// Checks that exactly the streams of the layout are there, each of the size of its tensors, and all together
/// with the rest within the limit. The sections, by number.
std::vector<const Section*> check_streams(const Container& c, std::span<const Place> places,
                                          std::uint64_t streams, std::uint64_t limit) {
  std::vector<std::uint64_t> sizes(static_cast<std::size_t>(streams));
  for (const auto& p : places)
    if (p.layout & kInStream) sizes[p.stream] += p.bytes;  // at most 2^16 tensors of 2^32 bytes
  std::vector<const Section*> sections;
  std::uint64_t total = c.at(kWeights).raw_bytes;
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    sections.push_back(&c.at(stream_name(k)));
    if (sections.back()->raw_bytes != sizes[k])
      base::fail_input("{}: section '{}' has {} bytes, its tensors {}", c.what, sections.back()->name,
                       sections.back()->raw_bytes, sizes[k]);
    total += sizes[k];
  }
  if (total > limit) base::fail_input("{}: weights of {} bytes, at most {} are read", c.what, total, limit);
  check_held(c, streams + 2);
  return sections;
}

}  // namespace

WholeWeights whole_weights(const Container& c, const ReadLimits& limits) {
  const auto& section = c.at(kWeights);
  if (!(c.required_features & kFeatureGroups)) {
    check_held(c, 0);
    return {c.decoded(section, limits.max_decoded), {}};
  }
  const auto rest = c.decoded(section, limits.max_decoded);
  const auto what = fmt::format("{}: section '{}'", c.what, kWeights);
  base::ByteReader in(rest.span(), what);
  const auto directory = decode_directory(in, what, limits);
  std::uint64_t streams = 0;
  auto places = read_layout(c, directory, streams);
  read_orders(c, places);
  const auto sections = check_streams(c, places, streams, limits.max_decoded);

  std::uint64_t total = rest.span().size();
  for (const auto* s : sections) total += s->raw_bytes;
  WholeWeights whole{RawBytes(total), {}};
  const auto out = whole.bytes.span();
  std::size_t at = static_cast<std::size_t>(in.position());
  std::memcpy(out.data(), rest.span().data(), at);
  RawBytes stream(0);
  std::size_t in_stream = 0;  // what of it is placed
  for (const auto& p : places) {
    const auto target = out.subspan(at, p.bytes);
    at += p.bytes;
    if (!(p.layout & kInStream)) {
      std::memcpy(target.data(), in.take(p.bytes).data(), p.bytes);
      continue;
    }
    if (p.layout & kBegins) {
      const auto& s = *sections[p.stream];
      stream = c.decoded(s, limits.max_decoded);
      in_stream = 0;
      whole.streams.push_back({&s, out.subspan(at - p.bytes, s.raw_bytes), (p.layout & kSorted) != 0,
                               (p.layout & kTransposed) != 0});
    }
    restore(stream.span().subspan(in_stream, p.bytes), p.rows, {p.order, (p.layout & kTransposed) != 0},
            target);
    in_stream += p.bytes;
  }
  const auto behind = in.take(in.left());
  base::check(behind.size() == out.size() - at, "{} bytes behind the integers", behind.size());
  std::memcpy(out.data() + at, behind.data(), behind.size());
  return whole;
}

}  // namespace fairway::artifact
