// What the receiver says of an activation that it has read.
#pragma once

#include <cstdint>

#include "error.h"
#include "safetensors.h"

namespace splitbench {

// Nanoseconds that reading the activation took, as an answer tells it by the receiver's own clock. kFrameDamaged where the
// answer holds no logits, or tells no time, or more than `most_ns`: so many had passed here.
Result<std::int64_t> decode_time(const Document& answer, std::int64_t most_ns);

}  // namespace splitbench
