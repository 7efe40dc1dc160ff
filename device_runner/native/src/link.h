// A slower link, shaped on top of the real one.
#pragma once

#include <cstdint>

namespace splitbench {

struct LinkShape {
  double bytes_per_s;   // at least 1
  std::int64_t rtt_ns;  // spent in front of a frame's first byte
};

}  // namespace splitbench
