// The second loop: pictures in, activations out over one connection, answers back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cargo.h"
#include "error.h"
#include "options.h"
#include "program.h"

namespace splitbench {

// One picture's way; its parts follow one another without a gap. The run is all outputs': of a program with several, none
// has a head or an end-to-end time.
struct Shipment {
  std::size_t picture;
  std::optional<std::int64_t> head_ns;        // picture in to activation there; 0 without a program
  std::int64_t encode_ns;                     // building the frame, with its checksum
  std::int64_t transfer_ns;                   // the first byte is sent to `received` read; a shaped link's time is in it
  std::int64_t decode_ns;                     // what the receiver took to read the activation, by its own clock
  std::int64_t tail_ns;                       // `received` read to `answer` read, without that
  std::optional<std::int64_t> end_to_end_ns;  // picture in to `answer` read
  std::uint64_t wire_bytes;
};

// Runs the program once a picture and ships every output, or the picture itself where there is no program (nullptr). Each
// output goes in the frame that the head of its cell would send: the runner greets anew before another cell's, which is
// not timed. By output, each by picture.
Result<std::vector<std::vector<Shipment>>> ship(Program* program, const Cargo& cargo, const Destination& destination);

}  // namespace splitbench
