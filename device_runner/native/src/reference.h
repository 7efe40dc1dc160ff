// What a program is held against before it is timed: a picture, and every output that it should give for it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "head.h"
#include "options.h"
#include "safetensors.h"
#include "verification.h"

namespace splitbench {

struct Expected {
  std::string name;  // in the file: `activation` of a head, `activation.0`, `activation.1`, .. of a survey program
  TensorView activation;
};

// `file` owns the tensors.
struct Reference {
  SafetensorsFile file;
  TensorView picture;
  Shape shape;               // as the program takes the picture
  std::vector<float> input;  // likewise
  std::vector<Expected> outputs;
};

// Reads the reference that the options name; kUsage where their lists are of another number of outputs.
Result<Reference> read_reference(const Options& options);

Status run_reference(Head& head, Reference& reference);

// What a program gave.
struct Output {
  Dtype dtype = Dtype::kU8;
  Shape shape;
  std::optional<Verification> verification;  // none without a head
};

// Verifies a program on the reference picture: `outputs` gets the numbers of all its outputs, kVerificationFailed tells
// the first one that is wrong. Where none is, they are written as a reference if that was asked for.
Status verify_outputs(Head& head, Reference& reference, const Options& options, std::vector<Output>& outputs);

}  // namespace splitbench
