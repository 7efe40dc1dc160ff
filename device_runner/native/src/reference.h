// What a program is held against before it is timed: a picture, and every output that it should give for it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "options.h"
#include "program.h"
#include "safetensors.h"
#include "verification.h"

namespace splitbench {

// `file` owns the tensors: `picture`, and `activation.0`, `activation.1`, .. of the outputs.
struct Reference {
  SafetensorsFile file;
  TensorView picture;
  Shape shape;               // as the program takes the picture
  std::vector<float> input;  // likewise
  std::vector<TensorView> outputs;
};

// Reads the reference that the options name; kUsage where they are not for its number of outputs.
Result<Reference> read_reference(const Options& options);

Status run_reference(Program& program, Reference& reference);

// What a program gave.
struct Output {
  Dtype dtype = Dtype::kU8;
  Shape shape;
  std::optional<Verification> verification;  // none without a program
};

// Verifies a program on the reference picture: `outputs` gets the numbers of all its outputs, kVerificationFailed tells
// the first one that is wrong. Where none is, they are written as a reference if that was asked for.
Status verify_outputs(Program& program, Reference& reference, const Options& options, std::vector<Output>& outputs);

}  // namespace splitbench
