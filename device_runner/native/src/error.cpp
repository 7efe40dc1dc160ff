#include "error.h"

#include "utf8.h"

namespace splitbench {

std::string one_line(const Failure& failure) {
  constexpr std::size_t kLongest = 600;
  std::string line = "head_runner: " + failure.what + "; " + failure.remedy;
  if (line.size() > kLongest) {
    line.resize(kLongest);
    line += "...";
  }
  for (std::size_t i = 0; i < line.size();) {
    const std::size_t length = utf8_sequence_bytes(line.data() + i, line.data() + line.size());
    const auto byte = static_cast<unsigned char>(line[i]);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      line[i] = '?';
    }
    i += length == 0 ? 1 : length;
  }
  return line;
}

}  // namespace splitbench
