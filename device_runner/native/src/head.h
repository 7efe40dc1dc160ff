// A head: a .pte that takes one picture and gives one activation. The only file that speaks to ExecuTorch.
#pragma once

#include <memory>
#include <string>

#include "error.h"
#include "safetensors.h"

namespace splitbench {

// Sets how many threads heads run on. To be called before a head is loaded.
Result<int> set_threads(int threads);

class Head {
 public:
  enum class Profiling { kOff, kOn };

  // Loads a head whose input must be F32 of this shape.
  static Result<std::unique_ptr<Head>> load(const std::string& path, const Shape& input_shape, Profiling profiling);
  virtual ~Head() = default;

  // Copies a picture (F32, as many values as the shape has) to where the head reads it. The head may write over it
  // when it runs, so that it is to be set before each run.
  virtual Status set_input(float* values) = 0;
  virtual Status run() = 0;
  // What the last run gave, in memory that the next run overwrites.
  virtual Result<TensorView> output() = 0;
  // The profile of all runs so far, as an ETDump; empty without Profiling::kOn.
  virtual std::string profile() = 0;
};

}  // namespace splitbench
