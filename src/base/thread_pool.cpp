#include "fairway/base/thread_pool.h"

#include "fairway/base/error.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace fairway::base {
namespace {

thread_local int current_thread_index = 0;

// How long a thread looks for work before it sleeps. Kernels follow each other within microseconds, a sleep
// and wake-up costs tens of them; with fewer cores than threads, the yield hands the core over.
constexpr int spins_before_sleep = 2000;

void relax(int spin) {
  if (spin % 64 == 63) {
    std::this_thread::yield();
  } else {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

}  // namespace

struct ThreadPool::State {
  // The current run in one word: its number, whether workers may still join, and how many are inside. A
  // worker that is asleep or late never joins a run that is over, so the caller waits only for those that
  // really take part.
  static constexpr std::uint64_t inside_mask = 0xffff;
  static constexpr std::uint64_t open_bit = 0x10000;
  static constexpr std::uint64_t one_run = 0x20000;
  std::atomic<std::uint64_t> word{0};
  std::atomic<std::int64_t> next{0};  ///< next index to hand out
  std::atomic<bool> running{false};
  std::atomic<bool> stopping{false};
  std::int64_t count = 0;  ///< of the current run; written only while no worker is inside
  std::int64_t shared_runs = 0;
  const std::function<void(std::int64_t)>* body = nullptr;

  std::mutex mutex;  ///< guards the sleeping counts, the error and every change that a sleeper waits for
  std::condition_variable wake, done;
  int sleepers = 0;
  std::exception_ptr error;  ///< the first one thrown
  std::vector<std::thread> workers;

  void drain() {
    for (;;) {
      const std::int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      try {
        (*body)(index);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (!error) error = std::current_exception();
        next.store(count, std::memory_order_relaxed);  // the rest is not worth starting
      }
    }
  }

  void work(int thread) {
    current_thread_index = thread;
    std::uint64_t seen = 0;
    while (wait_for_run(seen)) {
      std::uint64_t current = word.load(std::memory_order_acquire);
      seen = current / one_run;
      while ((current & open_bit) && current / one_run == seen)
        if (word.compare_exchange_weak(current, current + 1, std::memory_order_acq_rel)) {
          drain();
          leave();
          break;
        }
    }
  }

  void leave() {
    const std::uint64_t before = word.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & inside_mask) != 1 || (before & open_bit)) return;
    const std::scoped_lock lock(mutex);  // the caller looks at `word` under the lock before it sleeps
    done.notify_one();
  }

  /// Waits for a run after number `seen`; false when the pool ends.
  bool wait_for_run(std::uint64_t seen) {
    const auto ready = [&] {
      const std::uint64_t current = word.load(std::memory_order_acquire);
      return stopping.load() || ((current & open_bit) && current / one_run != seen);
    };
    for (int spin = 0; spin < spins_before_sleep && !ready(); ++spin) relax(spin);
    if (!ready()) {
      std::unique_lock lock(mutex);
      ++sleepers;
      wake.wait(lock, ready);
      --sleepers;
    }
    return !stopping.load();
  }

  void open() {
    next.store(0, std::memory_order_relaxed);
    const std::scoped_lock lock(
        mutex);  // no worker may fall asleep between its look at `word` and this change
    word.store((word.load(std::memory_order_relaxed) / one_run + 1) * one_run | open_bit,
               std::memory_order_release);
    if (sleepers > 0) wake.notify_all();
  }

  void close() {
    word.fetch_and(~open_bit, std::memory_order_acq_rel);
    const auto empty = [&] { return (word.load(std::memory_order_acquire) & inside_mask) == 0; };
    for (int spin = 0; spin < spins_before_sleep && !empty(); ++spin) relax(spin);
    if (empty()) return;
    std::unique_lock lock(mutex);
    done.wait(lock, empty);
  }

  void stop() {
    {
      const std::scoped_lock lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (auto& worker : workers) worker.join();
    workers.clear();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 0) fail_input("a thread pool of {} threads was asked for; use 0 for all cores", threads);
  if (threads == 0) threads = available_cores();
  threads = std::min(threads, static_cast<int>(State::inside_mask));
  try {
    for (int i = 1; i < threads; ++i) state_->workers.emplace_back(&State::work, state_.get(), i);
  } catch (const std::system_error& e) {
    state_->stop();
    fail("cannot start {} threads: {}; use fewer", threads, e.what());
  }
}

ThreadPool::~ThreadPool() { state_->stop(); }

int ThreadPool::threads() const noexcept { return static_cast<int>(state_->workers.size()) + 1; }

std::int64_t ThreadPool::shared_runs() const noexcept { return state_->shared_runs; }

int ThreadPool::thread_index() noexcept { return current_thread_index; }

void ThreadPool::run(std::int64_t count, const std::function<void(std::int64_t)>& body) {
  if (count <= 0) return;
  check(!state_->running.exchange(true), "ThreadPool::run called while this pool is running");
  // The caller is thread 0 of this pool, even if it is a worker of another one.
  struct Scope {
    State& state;
    int outer_index = std::exchange(current_thread_index, 0);
    ~Scope() {
      current_thread_index = outer_index;
      state.running = false;
    }
  } scope{*state_};
  if (count == 1 || state_->workers.empty()) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  if (count >= threads()) ++state_->shared_runs;
  state_->count = count;
  state_->body = &body;
  state_->open();
  state_->drain();
  state_->close();
  if (state_->error) std::rethrow_exception(std::exchange(state_->error, nullptr));
}

namespace {

/// Cores of the cgroup v2 quota at `file` ("max 100000" or "150000 100000"), or `otherwise`.
int quota_cores(const std::string& file, int otherwise) {
  std::ifstream stream(file);
  std::string quota;
  double period = 0;
  if (!(stream >> quota >> period) || quota == "max" || period <= 0) return otherwise;
  const double cores = std::strtod(quota.c_str(), nullptr) / period;
  return std::min(otherwise, std::max(1, static_cast<int>(std::ceil(cores))));
}

/// The tightest quota on the way from this process's cgroup to the root.
int cgroup_cores(int otherwise) {
  std::ifstream membership("/proc/self/cgroup");
  std::string path;
  for (std::string line; std::getline(membership, line);)
    if (line.starts_with("0::")) path = line.substr(3);
  int cores = quota_cores("/sys/fs/cgroup/cpu.max", otherwise);
  while (!path.empty() && path != "/") {
    cores = std::min(cores, quota_cores("/sys/fs/cgroup" + path + "/cpu.max", cores));
    path.erase(path.rfind('/'));
  }
  return cores;
}

}  // namespace

int available_cores() {
  int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  cpu_set_t mask;
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0) cores = std::max(1, CPU_COUNT(&mask));
  return cgroup_cores(cores);
}

}  // namespace fairway::base
