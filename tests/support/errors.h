#pragma once
#include <gtest/gtest.h>

#include <string>

#include "fairway/base/error.h"

namespace fairway::testing {

/// The message of the input error that `f` must throw: one line.
template <class F>
std::string input_error(const F& f) {
  try {
    f();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::input) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

}  // namespace fairway::testing
