// A program: a .pte that takes one picture and gives the activation of one split point (a head), or of many (a survey).
#pragma once

#include <memory>
#include <string>

#include "error.h"
#include "profile.h"
#include "safetensors.h"

namespace splitbench {

// Sets how many threads programs run on. To be called before one is loaded.
Result<int> set_threads(int threads);

class Program {
 public:
  // Loads a program whose input must be F32 of this shape, and which must give so many outputs. What runs is added to
  // `operators`, which must outlive it; nullptr: it runs without a profiler.
  static Result<std::unique_ptr<Program>> load(const std::string& path, const Shape& input_shape, std::size_t outputs,
                                               Operators* operators);
  virtual ~Program() = default;

  // Copies a picture (F32, as many values as the shape has) to where the program reads it. The program may write over it
  // when it runs, so that it is to be set before each run.
  virtual Status set_input(float* values) = 0;
  virtual Status run() = 0;
  // One of the outputs that the last run gave, in memory that the next run overwrites.
  virtual Result<TensorView> output(std::size_t number) = 0;
};

// "its output", or "its output 2" where it is one of several.
std::string output_text(std::size_t number, std::size_t outputs);

}  // namespace splitbench
