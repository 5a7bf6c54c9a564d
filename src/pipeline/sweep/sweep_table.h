#pragma once
#include "fairway/pipeline/sweep/sweep.h"
#include "fairway/report/table.h"

#include <nlohmann/json.hpp>

#include <vector>

namespace fairway::pipeline {

/// Takes a cell's values out of its result.json; sets `error` where the metric is not there.
void read_cell(const Sweep& sweep, const nlohmann::ordered_json& result, SweepCell& cell);

nlohmann::ordered_json sweep_json(const Sweep& sweep, const SweepResult& result);

/// The comparison, and the cells that failed where there are such.
std::vector<report::Table> sweep_tables(const Sweep& sweep, const SweepResult& result);

}  // namespace fairway::pipeline
