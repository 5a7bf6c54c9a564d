#pragma once
// Runs the forward of a case once and shows its outputs, for checks of single values.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fairway/base/cpu.h"
#include "ops/harness.h"
#include "ops/harness_run.h"

namespace fairway::ops::harness {

/// Output k of the forward operator in f32 on the best instruction set (or the given one).
inline std::vector<double> output_values(const OpCase& c, std::size_t k = 0,
                                         base::Isa isa = base::best_isa()) {
  std::string problem;
  const Setting setting{false, isa, nullptr};
  const Blocks in = make_inputs(c, false);
  const Blocks out = execute(c, setting, {*c.op, views(in), {}, {}, {}}, problem);
  EXPECT_EQ(problem, "");
  return out.at(k).values();
}

/// A case from operator and inputs.
inline OpCase op_case(std::string name, OperatorPtr op, std::vector<InputSpec> inputs,
                      std::vector<int> saved = {}) {
  OpCase c;
  c.name = std::move(name);
  c.op = std::move(op);
  c.inputs = std::move(inputs);
  c.saved_outputs = std::move(saved);
  return c;
}

}  // namespace fairway::ops::harness
