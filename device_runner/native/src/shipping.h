// The second loop: pictures in, activations out over one connection, answers back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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
Result<std::vector<Shipment>> ship(Head* head, const TensorView& pictures, const Destination& destination,
                                   const std::string& token);

}  // namespace splitbench
