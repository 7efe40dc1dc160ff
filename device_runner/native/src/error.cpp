#include "error.h"

#include "utf8.h"

namespace splitbench {

std::string printable(std::string text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_sequence_bytes(text.data() + i, text.data() + text.size());
    const auto byte = static_cast<unsigned char>(text[i]);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      text[i] = '?';
    }
    i += length == 0 ? 1 : length;
  }
  return text;
}

std::string one_line(const Failure& failure) {
  constexpr std::size_t kLongest = 800;
  std::string line = "head_runner: " + failure.what + "; " + failure.remedy;
  if (line.size() > kLongest) {
    line.resize(kLongest);
    line += "...";
  }
  return printable(std::move(line));
}

}  // namespace splitbench
