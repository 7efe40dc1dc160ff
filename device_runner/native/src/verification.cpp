#include "verification.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace splitbench {
namespace {

template <typename T>
T value_at(const TensorView& tensor, std::size_t i) {
  T value;
  std::memcpy(&value, tensor.data + i * sizeof value, sizeof value);
  return value;
}

double cosine_of(double dot, double output_square, double expected_square) {
  if (output_square == 0 || expected_square == 0) {
    return output_square == expected_square ? 1.0 : 0.0;
  }
  return std::clamp(dot / (std::sqrt(output_square) * std::sqrt(expected_square)), -1.0, 1.0);
}

template <typename T>
Verification compare(const TensorView& output, const TensorView& expected, double zero_point) {
  double max_abs_err = 0;
  double dot = 0;
  double output_square = 0;
  double expected_square = 0;
  for (std::size_t i = 0; i < output.elements(); ++i) {
    const double is = value_at<T>(output, i);
    const double should = value_at<T>(expected, i);
    if (!std::isfinite(is) || !std::isfinite(should)) {
      return {};
    }
    max_abs_err = std::max(max_abs_err, std::fabs(is - should));
    dot += (is - zero_point) * (should - zero_point);
    output_square += (is - zero_point) * (is - zero_point);
    expected_square += (should - zero_point) * (should - zero_point);
  }
  return {max_abs_err, cosine_of(dot, output_square, expected_square), true};
}

}  // namespace

Verification verify(const TensorView& output, const TensorView& expected, const Tolerance& tolerance) {
  if (output.dtype != expected.dtype || output.shape != expected.shape) {
    return {};
  }
  Verification result;
  switch (output.dtype) {
    case Dtype::kF32:
      result = compare<float>(output, expected, 0);
      break;
    case Dtype::kI8:
      result = compare<std::int8_t>(output, expected, tolerance.zero_point);
      break;
    case Dtype::kU8:
      result = compare<std::uint8_t>(output, expected, 0);
      break;
  }
  result.passed = result.passed && !(tolerance.max_abs_err && *result.max_abs_err > *tolerance.max_abs_err) &&
                  !(tolerance.min_cosine && *result.cosine < *tolerance.min_cosine);
  return result;
}

}  // namespace splitbench
