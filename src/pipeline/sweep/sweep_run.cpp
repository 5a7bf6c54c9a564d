// Running the matrix of a sweep.

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/path.h"
#include "fairway/pipeline/run/run.h"
#include "fairway/pipeline/sweep/sweep.h"
#include "fairway/report/html.h"
#include "fairway/report/metrics.h"
#include "sweep/sweep_table.h"

#include <fmt/format.h>

#include <atomic>
#include <mutex>
#include <thread>

namespace fairway::pipeline {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// What cells say, named, from whichever thread: all of it from a cell that runs alone, else warnings only.
class CellProgress final : public base::ProgressSink {
 public:
  CellProgress(base::ProgressSink& sink, std::mutex& mutex, std::string cell, bool alone)
      : sink_(sink), mutex_(mutex), cell_(std::move(cell)), alone_(alone) {}
  void update(const base::Progress& progress) override {
    if (!alone_) return;
    const std::lock_guard lock(mutex_);
    sink_.update(progress);
  }
  void note(std::string_view line) override {
    if (!alone_) return;
    const std::lock_guard lock(mutex_);
    sink_.note(line);
  }
  void warning(std::string_view line) override {
    const std::lock_guard lock(mutex_);
    sink_.warning(fmt::format("{}: {}", cell_, line));
  }

 private:
  base::ProgressSink& sink_;
  std::mutex& mutex_;
  std::string cell_;
  bool alone_;
};

class SweepRun {
 public:
  SweepRun(const Sweep& sweep, const SweepOptions& options, const exec::ExecutionOptions& execution)
      : sweep_(sweep), o_(options), execution_(execution) {
    if (execution_.progress) sink_ = execution_.progress;
    for (const auto& v : sweep.variants)
      for (const auto seed : sweep.seeds) {
        SweepCell cell;
        cell.variant = v.name;
        cell.seed = seed;
        cell.folder = o_.out / v.name / fmt::format("seed-{}", seed);
        result_.cells.push_back(std::move(cell));
        plan_.push_back(&v);
      }
  }

  SweepResult go() {
    prepare_folder();
    const auto jobs =
        std::min<std::size_t>(static_cast<std::size_t>(std::max(o_.jobs, 1)), result_.cells.size());
    {
      std::vector<std::jthread> workers;
      for (std::size_t i = 1; i < jobs; ++i) workers.emplace_back([this, jobs] { work(jobs); });
      work(jobs);
    }  // all have ended
    update_files();
    if (interrupted_)
      throw base::Error(base::ErrorKind::interrupted,
                        fmt::format("interrupted; {} of {} runs are finished, continue with --resume in {}",
                                    finished_.load(), result_.cells.size(), o_.out.string()));
    return std::move(result_);
  }

 private:
  void prepare_folder() const {
    if (base::exists(o_.out) && !(base::is_folder(o_.out) && fs::is_empty(o_.out)) && !o_.resume)
      base::fail_input(
          "--out {}: the folder is not empty; choose another or continue the sweep in it with --resume",
          o_.out.string());
    base::make_writable_folder(o_.out);
  }

  void work(std::size_t jobs) {
    for (std::size_t i; !interrupted_ && (i = next_++) < result_.cells.size();) {
      SweepCell cell = result_.cells[i];
      run_cell(*plan_[i], cell, jobs);
      const std::lock_guard lock(mutex_);
      if (interrupted_ && !cell.metric && cell.error.empty()) return;
      result_.cells[i] = cell;
      ++finished_;
      sink_->note(fmt::format("{}, seed {}: {} ({} of {} runs)", cell.variant, cell.seed,
                              cell.metric ? fmt::format("{:.5f} nats", *cell.metric) : cell.error,
                              finished_.load(), result_.cells.size()));
      update_files_locked();
    }
  }

  void run_cell(const SweepVariant& variant, SweepCell& cell, std::size_t jobs) {
    try {
      exec::ExecutionOptions execution = execution_;
      if (jobs > 1) {
        const int threads = execution.threads > 0
                                ? execution.threads
                                : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
        execution.threads = std::max(1, threads / static_cast<int>(jobs));
      }
      CellProgress progress(*sink_, mutex_, fmt::format("{}, seed {}", cell.variant, cell.seed), jobs == 1);
      execution.progress = &progress;
      exec::Engine engine(execution);
      engine.throw_if_stopped();
      RunOptions run_options;
      run_options.recipe = cell_recipe(sweep_, variant, cell.seed, o_.more);
      run_options.out = cell.folder;
      run_options.resume = true;
      const auto done = run(run_options, engine);
      cell.was_finished = done.already_finished;
      read_cell(sweep_, Json::parse(done.json), cell);
    } catch (const base::Error& error) {
      if (error.kind() == base::ErrorKind::interrupted) {
        interrupted_ = true;
      } else {
        cell.error = error.what();
      }
    } catch (const std::bad_alloc&) {
      cell.error = "out of memory";
    } catch (const std::exception& error) {
      cell.error = error.what();
    }
  }

  void update_files() {
    const std::lock_guard lock(mutex_);
    update_files_locked();
  }

  /// After each run, so that what is known is there whatever happens to the rest.
  void update_files_locked() {
    result_.rows = sweep_rows(sweep_, result_.cells);
    result_.failed = std::ranges::any_of(result_.cells, [](const auto& c) { return !c.error.empty(); });
    result_.json = report::json_text(sweep_json(sweep_, result_));
    base::write_file(o_.out / "sweep.json", result_.json);
    report::HtmlReport page;
    page.title = sweep_.name;
    page.subtitle = sweep_.description;
    page.tables = sweep_tables(sweep_, result_);
    base::write_file(o_.out / "sweep.html", report::to_html(page));
  }

  const Sweep& sweep_;
  const SweepOptions& o_;
  exec::ExecutionOptions execution_;
  base::SilentProgress silent_;
  base::ProgressSink* sink_ = &silent_;
  std::vector<const SweepVariant*> plan_;
  SweepResult result_;
  std::mutex mutex_;
  std::atomic<std::size_t> next_ = 0, finished_ = 0;
  std::atomic<bool> interrupted_ = false;
};

}  // namespace

SweepResult run_sweep(const Sweep& sweep, const SweepOptions& options,
                      const exec::ExecutionOptions& execution) {
  return SweepRun(sweep, options, execution).go();
}

}  // namespace fairway::pipeline
