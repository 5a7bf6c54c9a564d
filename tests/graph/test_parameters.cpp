// Where parameters lie in the flat buffers.
#include "fairway/base/error.h"
#include "fairway/graph/parameters.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace fairway::graph {
namespace {

ParameterLayout layout() {
  ParameterLayout l;
  l.add("bias", {5}, Group::scalar);
  l.add("w", {3, 7}, Group::matrix);
  l.add_packed("qkv", 6, {{"q", 6}, {"k", 3}, {"v", 3}});
  l.add("embed", {11, 6}, Group::table);
  l.add("gain", {}, Group::scalar);
  l.add("last", {2, 2}, Group::matrix);
  l.finish();
  return l;
}

TEST(ParameterLayout, GroupsAreContiguousInOrderAndPadded) {
  const auto l = layout();
  EXPECT_EQ(l.range(Group::matrix).begin, 0);
  EXPECT_EQ(l.range(Group::matrix).end, l.range(Group::table).begin);
  EXPECT_EQ(l.range(Group::table).end, l.range(Group::scalar).begin);
  EXPECT_EQ(l.range(Group::scalar).end, l.padded_elements());
  for (const auto group : {Group::matrix, Group::table, Group::scalar}) {
    EXPECT_EQ(l.range(group).begin % 16, 0) << group_name(group);
    EXPECT_EQ(l.range(group).end % 16, 0) << group_name(group);
  }
  EXPECT_EQ(l.count(), 5 + 21 + 72 + 66 + 1 + 4);
}

TEST(ParameterLayout, ParametersDoNotOverlapAndAreAligned) {
  const auto l = layout();
  std::vector<Range> taken;
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
  EXPECT_TRUE(l.contains("qkv"));
  EXPECT_EQ(std::ranges::count_if(l.parameters(), [](const auto& p) { return p.name == "qkv"; }), 0)
      << "an alias is not a parameter of its own";
}

TEST(ParameterLayout, RefusesUnknownAndRepeatedNames) {
  ParameterLayout l;
  l.add("a", {2}, Group::scalar);
  l.add_packed("p", 2, {{"b", 1}, {"c", 1}});
  EXPECT_THROW(l.add("a", {2}, Group::scalar), base::Error);
  EXPECT_THROW(l.add("b", {2}, Group::scalar), base::Error);
  EXPECT_THROW(l.add("p", {2}, Group::scalar), base::Error);
  l.finish();
  EXPECT_THROW(l.add("late", {2}, Group::scalar), base::Error);
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
