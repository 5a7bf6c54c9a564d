// Recipes that begin with another one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "support/folder.h"

namespace fairway::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RecipeBase : public ::testing::Test {
 protected:
  void write(const std::string& file, std::string_view text) {
    std::filesystem::create_directories((folder_ / file).parent_path());
    base::write_file(folder_ / file, text);
  }
  LoadedRecipe load(const std::string& file, const RecipeOptions& options = {}) {
    return load_recipe(folder_(file), options);
  }
  std::string error(const std::string& file) {
    try {
      load(file);
      return "";
    } catch (const base::Error& e) {
      EXPECT_EQ(e.kind(), base::ErrorKind::input);
      return e.what();
    }
  }
  fairway::testing::Folder folder_;
};

TEST_F(RecipeBase, TheFileLiesOverItsBase) {
  write("a.toml",
        "name = \"first\"\ndescription = \"d\"\nseed = 5\n[train]\nsteps = 6\nlog_every = 3\n[model]\nlayers "
        "= 4\n"
        "ve_layers = [3]\nxsa_layers = [2, 3]\n");
  write("b.toml", "base = \"a.toml\"\n[train]\nsteps = 7\n[model]\nve_layers = []\n");
  const auto loaded = load("b.toml");
  const auto& r = loaded.recipe;
  EXPECT_EQ(r.name, "b") << "a name is one recipe's own";
  EXPECT_EQ(r.description, "");
  EXPECT_EQ(r.seed, 5);
  EXPECT_EQ(r.train.steps, 7);
  EXPECT_EQ(r.train.log_every, 3);
  EXPECT_THAT(r.model.ve_layers, ElementsAre());
  EXPECT_THAT(r.model.xsa_layers, ElementsAre(2, 3));
  EXPECT_EQ(loaded.source, folder_("b.toml"));
  EXPECT_EQ(parse_recipe(to_toml(loaded), "resolved.toml", "/elsewhere").recipe, r)
      << "the resolved recipe stands alone";
  EXPECT_EQ(load("b.toml", {.set = {"train.log_every=9"}}).recipe.train.log_every, 9);
}

TEST_F(RecipeBase, IsTheNameOfABuiltInRecipeOrAPathFromTheFile) {
  write("demo.toml", "base = \"demo\"\n[train]\nsteps = 9\n");
  auto expected = load_recipe("demo").recipe;
  expected.train.steps = 9;
  expected.description.clear();
  EXPECT_EQ(load("demo.toml").recipe, expected);

  write("far/a.toml", "[data]\ntrain = [\"a.txt\"]\nvalidation = [\"v.txt\"]\n[train]\nsteps = 9\n");
  write("near/b.toml", "base = \"../far/a.toml\"\n[data]\nvalidation = [\"v.txt\"]\n");
  write("near/c.toml", "base = \"./b.toml\"\n");
  const auto r = load("near/c.toml").recipe;
  EXPECT_THAT(r.data.train, ElementsAre(folder_("far/a.txt"))) << "paths are relative to where they stand";
  EXPECT_THAT(r.data.validation, ElementsAre(folder_("near/v.txt")));
}

TEST_F(RecipeBase, MistakesAreToldWhereTheyStand) {
  write("none.toml", "name = \"n\"\nbase = \"other.toml\"\n");
  EXPECT_THAT(error("none.toml"), HasSubstr("none.toml:2:8: base = \"other.toml\": "));
  write("name.toml", "base = \"dem\"\n");
  EXPECT_THAT(error("name.toml"), HasSubstr("name.toml:1:8: base = \"dem\": no built-in recipe 'dem'"));
  write("type.toml", "base = 3\n");
  EXPECT_THAT(error("type.toml"), HasSubstr("type.toml:1:8: base: expected text, found an integer"));
  write("low.toml", "seed = 1\n[train]\nsteps = -1\n");
  write("high.toml", "base = \"low.toml\"\n");
  EXPECT_THAT(error("high.toml"), HasSubstr("low.toml:3:9: train.steps = -1"));
  write("pair.toml", "base = \"demo\"\n[model]\nheads = 7\n");
  EXPECT_THAT(error("pair.toml"), HasSubstr("pair.toml:3:9: model.heads = 7 does not divide model.width"));
  EXPECT_THAT([] { parse_recipe("base = \"demo\"", "model file", {}); },
              ::testing::ThrowsMessage<base::Error>(HasSubstr("model file:1:8: base = \"demo\": only")));
}

TEST_F(RecipeBase, CirclesAndLongChainsAreRefused) {
  write("self.toml", "base = \"self.toml\"\n");
  EXPECT_THAT(error("self.toml"), HasSubstr("self.toml:1:8: base = \"self.toml\": a circle: "));
  write("a.toml", "base = \"b.toml\"\n");
  write("b.toml", "seed = 1\nbase = \"./a.toml\"\n");
  const auto circle = folder_("a.toml") + " -> " + folder_("b.toml") + " -> " + folder_("a.toml");
  EXPECT_THAT(error("a.toml"), HasSubstr("b.toml:2:8: base = \"./a.toml\": a circle: " + circle));
  write("0.toml", "seed = 7\n");
  for (int i = 1; i <= 9; ++i) write(fmt::format("{}.toml", i), fmt::format("base = \"{}.toml\"\n", i - 1));
  EXPECT_EQ(load("8.toml").recipe.seed, 7);
  EXPECT_THAT(error("9.toml"), HasSubstr("1.toml:1:8: base = \"0.toml\": a chain of more than 8 recipes"));
}

}  // namespace
}  // namespace fairway::pipeline
