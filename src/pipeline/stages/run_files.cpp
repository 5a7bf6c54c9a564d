#include "stages/run_files.h"

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/path.h"

#include <nlohmann/json.hpp>

namespace fairway::pipeline {

namespace fs = std::filesystem;

bool is_finished(const RunFolder& folder, bool train_only) {
  if (!base::exists(folder.result())) return false;
  return train_only ||
         nlohmann::json::parse(base::read_text_file(folder.result()), nullptr, false).contains("score");
}

void check_kept(const fs::path& file) {
  const RunFolder run{file.parent_path()};
  if (file.filename() == run.checkpoint().filename() && !base::exists(file) && is_finished(run, false))
    base::fail_input(
        "{}: this run is finished and kept no checkpoint (train.keep_checkpoints = 0); {} is its model",
        file.string(), run.artifact().string());
}

fs::path checkpoint_of(const fs::path& given) {
  const auto file = base::is_folder(given) ? RunFolder{given}.checkpoint() : given;
  check_kept(file);
  return file;
}

}  // namespace fairway::pipeline
