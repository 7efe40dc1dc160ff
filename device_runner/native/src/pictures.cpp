#include "pictures.h"

namespace splitbench {

Shape batch_of_one(const Shape& picture_shape) {
  Shape shape{1};
  shape.insert(shape.end(), picture_shape.end() - 3, picture_shape.end());
  return shape;
}

void to_unit_range(const std::uint8_t* bytes, std::vector<float>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(bytes[i]) / 255.0f;
  }
}

}  // namespace splitbench
