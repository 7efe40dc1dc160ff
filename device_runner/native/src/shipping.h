// The second loop: pictures in, activations out over one connection, answers back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cargo.h"
#include "error.h"
#include "head.h"
#include "options.h"

namespace splitbench {

struct Shipment {
  std::size_t picture;
  std::int64_t head_ns;        // picture in to activation there; 0 without a head
  std::int64_t transfer_ns;    // building the frame begins to `received` read; a shaped link's time is in it
  std::int64_t tail_ns;        // `received` read to `answer` read
  std::int64_t end_to_end_ns;  // picture in to `answer` read
  std::uint64_t wire_bytes;
};

// Ships every picture's activation, or the picture itself where there is no head (nullptr).
Result<std::vector<Shipment>> ship(Head* head, const Cargo& cargo, const Destination& destination);

// One of a survey's activations: the run is all outputs' and has no time of one.
struct SurveyShipment {
  std::size_t picture;
  std::int64_t transfer_ns;
  std::int64_t tail_ns;
  std::uint64_t wire_bytes;
};

// Runs a survey program once a picture and ships every output as the head of its cell would, in the frame that this one
// would send; the runner greets anew before each, which is not timed. By output, each by picture.
Result<std::vector<std::vector<SurveyShipment>>> ship_survey(Head& program, const Cargo& cargo,
                                                             const Destination& destination);

}  // namespace splitbench
