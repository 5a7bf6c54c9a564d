#pragma once
#include <vector>

#include "fairway/pipeline/recipe/recipe.h"

namespace fairway::pipeline {

/// Files inside the program, by file name ("demo.toml", "demo.txt").
const std::vector<Builtin>& builtin_files();

}  // namespace fairway::pipeline
