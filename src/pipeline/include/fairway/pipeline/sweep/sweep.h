#pragma once
// A matrix of runs: named variants of a base recipe, each with several seeds (docs/recipes.md, "Sweeps").

#include "fairway/exec/engine.h"
#include "fairway/pipeline/recipe/recipe.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace fairway::pipeline {

struct SweepVariant {
  std::string name;              ///< letters, digits, '_', '-', '.': it names a folder
  std::string note;              ///< one line for the table
  std::string metric;            ///< its own number of result.json; "": the sweep's
  std::vector<std::string> set;  ///< its recipe keys, as --set takes them
};

struct Sweep {
  std::string name, description;
  std::string base = "demo";   ///< recipe name, or path of a recipe file
  std::string scale = "full";  ///< applied after a variant's keys, so that step counts shrink along
  std::string metric;          ///< result.json's number that is compared, parts joined by dots; in nats
  std::string baseline;        ///< name of a variant; the first when the file does not say
  std::vector<std::int64_t> seeds;
  std::vector<SweepVariant> variants;
  std::string source;  ///< the file
};

/// What the command line adds.
struct SweepOverrides {
  std::vector<std::string> set;  ///< for every variant, after --scale, as with `fairway run`
  std::optional<std::string> scale;
  std::vector<std::int64_t> seeds;  ///< not empty: instead of the file's
};

/// Reads and checks a sweep file: every recipe it stands for is resolved. Input errors name file, line and
/// column, or the variant.
Sweep load_sweep(const std::filesystem::path& path, const SweepOverrides& more = {});
Sweep parse_sweep(std::string_view text, const std::string& label, const std::filesystem::path& folder,
                  const SweepOverrides& more = {});

/// The recipe of one cell.
LoadedRecipe cell_recipe(const Sweep& sweep, const SweepVariant& variant, std::int64_t seed,
                         const SweepOverrides& more = {});

/// One run of the matrix.
struct SweepCell {
  std::string variant;
  std::int64_t seed = 0;
  std::filesystem::path folder;
  bool was_finished = false;     ///< skipped: an earlier call had finished it
  std::string error;             ///< why there is no value; empty when there is one
  std::optional<double> metric;  ///< nats per token
  std::optional<double> bits_per_byte;
  std::optional<double> quantisation_gap;  ///< nats: artifact minus exported weights, plain windows
  std::optional<double> artifact_bytes;
  std::string verdict;  ///< of the score that the metric belongs to
};

/// The challenge's rule (docs/spec/evaluation.md section 4).
inline constexpr double kRecordNats = 0.005;
inline constexpr double kRecordP = 0.01;

/// One line of the table.
struct SweepRow {
  std::string variant, note, metric;
  std::size_t runs = 0;  ///< that gave a value
  std::optional<double> mean, deviation, bits_per_byte, quantisation_gap, artifact_bytes;
  std::optional<double> difference;  ///< of the means, variant minus baseline; nothing for the baseline
  std::optional<double> t, p;        ///< Welch's, two-sided, against no difference
  std::optional<double> record_p;    ///< one-sided, against a difference of -kRecordNats
  /// Lower by at least kRecordNats, p < kRecordP for it being lower, and every score a code length.
  bool record = false;
  std::string verdict;  ///< "valid", or the first other one
};
std::vector<SweepRow> sweep_rows(const Sweep& sweep, const std::vector<SweepCell>& cells);

struct SweepOptions {
  std::filesystem::path out;  ///< cells run in OUT/VARIANT/seed-N
  bool resume = false;        ///< finished cells are skipped, partial ones go on
  int jobs = 1;               ///< cells at a time; the threads are shared out
  SweepOverrides more;
};

struct SweepResult {
  std::vector<SweepCell> cells;
  std::vector<SweepRow> rows;
  std::string json;  ///< what OUT/sweep.json holds
  bool failed = false;
};

/// Runs the matrix and writes OUT/sweep.json and OUT/sweep.html. A cell that fails is reported in it and the
/// others go on; a stop request saves the cells at work and throws `interrupted`. Cells run on engines of
/// their own made from `execution`.
SweepResult run_sweep(const Sweep& sweep, const SweepOptions& options,
                      const exec::ExecutionOptions& execution);

/// The table as people read it.
std::string sweep_text(const Sweep& sweep, const SweepResult& result);

}  // namespace fairway::pipeline
