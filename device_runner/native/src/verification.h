// Whether an output is what it should be: the numbers are kept apart from the verdict.
#pragma once

#include <optional>

#include "safetensors.h"

namespace splitbench {

struct Tolerance {
  std::optional<double> max_abs_err;  // passes at or below; in the output's own unit, for int8 its least significant bit
  std::optional<double> min_cosine;   // passes at or above
  int zero_point = 0;                 // of an int8 output: taken off before the cosine
};

struct Verification {
  std::optional<double> max_abs_err;  // empty where type or shape differ, or a value is not finite
  std::optional<double> cosine;       // on [-1, 1]; 1 for two outputs of nothing but zeros, 0 for one; empty as above
  bool passed = false;
};

// Compares an output with the one expected. Another type or shape, or a value that is not finite, never passes.
Verification verify(const TensorView& output, const TensorView& expected, const Tolerance& tolerance);

}  // namespace splitbench
