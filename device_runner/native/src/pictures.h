// Pictures as a head takes them.
#pragma once

#include <vector>

#include "safetensors.h"

namespace splitbench {

// The shape of a batch of one picture: [..., 3, H, W] -> [1, 3, H, W].
Shape batch_of_one(const Shape& picture_shape);

// u8 / 255 as F32: a real division, bit-equal to what torch's u8.float() / 255 gives.
void to_unit_range(const std::uint8_t* bytes, std::vector<float>& values);

}  // namespace splitbench
