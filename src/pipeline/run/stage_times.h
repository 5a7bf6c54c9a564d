#pragma once
// Where a run's seconds went.

#include "fairway/base/clock.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace fairway::pipeline {

/// Stages in the order in which they first ran; a stage that runs again adds to its time.
class StageTimes {
 public:
  void add(const std::string& stage, double seconds) {
    for (auto& [name, sum] : stages_)
      if (name == stage) {
        sum += seconds;
        return;
      }
    stages_.emplace_back(stage, seconds);
  }
  /// Times `work` and returns what it returns.
  template <class F>
  auto time(const std::string& stage, F&& work) {
    const Timed timed{*this, stage};
    return work();
  }
  /// A list of {"stage", "seconds"}; what no stage took is "other".
  nlohmann::ordered_json json() const {
    auto list = nlohmann::ordered_json::array();
    double other = whole_.seconds();
    for (const auto& [name, seconds] : stages_) {
      list.push_back({{"stage", name}, {"seconds", seconds}});
      other -= seconds;
    }
    list.push_back({{"stage", "other"}, {"seconds", std::max(0.0, other)}});
    return list;
  }

 private:
  struct Timed {
    StageTimes& times;
    std::string stage;
    base::Stopwatch watch{};
    ~Timed() { times.add(stage, watch.seconds()); }
  };
  base::Stopwatch whole_;
  std::vector<std::pair<std::string, double>> stages_;
};

}  // namespace fairway::pipeline
