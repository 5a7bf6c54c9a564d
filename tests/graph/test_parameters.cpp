// Where parameters lie in the flat buffers.
#include "fairway/base/error.h"
#include "fairway/graph/parameters.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace fairway::graph {
namespace {

ParameterLayout layout() {
  ParameterLayout l;
  l.add({.name = "bias", .shape = {5}, .group = Group::scalar});
  l.add({.name = "w", .shape = {3, 7}});
  l.add_packed("qkv", {{.name = "q", .shape = {6, 6}, .multiplied = true},
                       {.name = "k", .shape = {3, 6}, .multiplied = true},
                       {.name = "v", .shape = {3, 6}, .multiplied = true}});
  l.add({.name = "embed", .shape = {11, 6}, .group = Group::embedding, .multiplied = true});
  l.add({.name = "gain", .shape = {}, .group = Group::scalar});
  l.add({.name = "last", .shape = {2, 2}});
  l.finish();
  return l;
}

TEST(ParameterLayout, GroupsAreContiguousInOrderAndPadded) {
  const auto l = layout();
  EXPECT_EQ(l.range(Group::matrix).begin, 0);
  EXPECT_EQ(l.range(Group::matrix).end, l.range(Group::embedding).begin);
  EXPECT_EQ(l.range(Group::embedding).end, l.range(Group::scalar).begin);
  EXPECT_EQ(l.range(Group::scalar).end, l.padded_elements());
  for (const auto group : {Group::matrix, Group::embedding, Group::scalar}) {
    EXPECT_EQ(l.range(group).begin % 16, 0) << static_cast<int>(group);
    EXPECT_EQ(l.range(group).end % 16, 0) << static_cast<int>(group);
  }
  EXPECT_EQ(l.count(), 5 + 21 + 72 + 66 + 1 + 4);
}

TEST(ParameterLayout, ParametersDoNotOverlapAndAreAligned) {
  const auto l = layout();
  std::vector<base::Range> taken;
  for (const auto& p : l.parameters()) {
    const auto range = l.range(p.group);
    EXPECT_GE(p.offset, range.begin) << p.name;
    EXPECT_LE(p.offset + p.elements(), range.end) << p.name;
    if (p.name != "k" && p.name != "v") {
      EXPECT_EQ(p.offset % 16, 0) << p.name << ": 64 bytes of fp32";
    }
    for (const auto& t : taken)
      EXPECT_TRUE(p.offset >= t.end || p.offset + p.elements() <= t.begin) << p.name;
    taken.push_back({p.offset, p.offset + p.elements()});
  }
  EXPECT_EQ(taken.size(), 8u);
}

TEST(ParameterLayout, PackedPartsFollowEachOtherWithoutPadding) {
  const auto l = layout();
  const auto& all = l.find("qkv");
  EXPECT_EQ(all.shape, (tensor::Shape{12, 6}));
  EXPECT_EQ(l.find("q").offset, all.offset);
  EXPECT_EQ(l.find("k").offset, all.offset + 36);
  EXPECT_EQ(l.find("v").offset, all.offset + 54);
  EXPECT_GE(l.find("last").offset, all.offset + 72);
  EXPECT_THAT(l.parts("qkv"), testing::ElementsAre("q", "k", "v"));
  EXPECT_THAT(l.parts("w"), testing::ElementsAre("w"));
  EXPECT_EQ(l.find("k").packed_into, "qkv");
  EXPECT_THAT(l.multiplied(), testing::ElementsAre("qkv", "embed")) << "packed ones as one";
  EXPECT_TRUE(l.contains("qkv"));
  EXPECT_EQ(std::ranges::count_if(l.parameters(), [](const auto& p) { return p.name == "qkv"; }), 0)
      << "an alias is not a parameter of its own";
}

TEST(ParameterLayout, RefusesUnknownAndRepeatedNames) {
  ParameterLayout l;
  const auto vector = [](const char* name) {
    return Parameter{.name = name, .shape = {2}, .group = Group::scalar};
  };
  l.add(vector("a"));
  l.add_packed("p", {{.name = "b", .shape = {1, 2}}, {.name = "c", .shape = {1, 2}}});
  for (const auto* name : {"a", "b", "p"}) EXPECT_THROW(l.add(vector(name)), base::Error) << name;
  EXPECT_THROW(l.add_packed("r", {{.name = "d", .shape = {1, 2}}, {.name = "e", .shape = {1, 3}}}),
               base::Error);
  l.finish();
  EXPECT_THROW(l.add(vector("late")), base::Error);
  EXPECT_THROW(l.finish(), base::Error);
  EXPECT_THROW(l.find("nothing"), base::Error);
  EXPECT_FALSE(l.contains("nothing"));
}

TEST(ParameterStore, PackedAliasesAndPartsAreTheSameMemory) {
  ParameterStore store(layout(), {}, true);
  auto all = store.value("qkv").span<float>();
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(i);
  EXPECT_EQ(store.value("k").span<float>()[0], 36.0f);
  EXPECT_EQ(store.value("v").span<float>()[17], 71.0f);
  store.gradient("v").span<float>()[0] = 5;
  EXPECT_EQ(store.gradient("qkv").span<float>()[54], 5.0f);
  EXPECT_EQ(store.flat_values().span<float>()[static_cast<std::size_t>(store.layout().find("k").offset)],
            36.0f);
  store.zero_gradients();
  EXPECT_EQ(store.gradient("v").span<float>()[0], 0.0f);
  EXPECT_EQ(store.value("v").span<float>()[17], 71.0f);
}

TEST(ParameterStore, WithoutGradientsTheyAreAbsent) {
  ParameterStore store(layout(), {}, false);
  EXPECT_FALSE(store.has_gradients());
  EXPECT_FALSE(static_cast<bool>(store.gradient("w")));
  EXPECT_FALSE(static_cast<bool>(store.flat_gradients()));
  EXPECT_EQ(store.bytes(), static_cast<std::size_t>(store.layout().padded_elements()) * 4);
}

}  // namespace
}  // namespace fairway::graph
