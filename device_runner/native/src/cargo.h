// What a runner ships: pictures, and the token that opens the connection.
#pragma once

#include <string>

#include "error.h"
#include "options.h"
#include "safetensors.h"

namespace splitbench {

// `file` owns the pictures.
struct Cargo {
  SafetensorsFile file;
  TensorView pictures;
  std::string token;
};

// Reads the pictures' file, and the token from standard input.
Result<Cargo> read_cargo(const Destination& destination);

}  // namespace splitbench
