#include "utf8.h"

namespace splitbench {
namespace {

bool continues_utf8(unsigned char byte) { return (byte & 0xc0) == 0x80; }

}  // namespace

std::size_t utf8_sequence_bytes(const char* text, const char* end) {
  const auto at = [&](std::ptrdiff_t i) { return text + i < end ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto lead = static_cast<unsigned char>(*text);
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xc2 && lead <= 0xdf) {
    return continues_utf8(at(1)) ? 2 : 0;
  }
  if (lead >= 0xe0 && lead <= 0xef) {
    const unsigned lowest = lead == 0xe0 ? 0xa0 : 0x80;
    const unsigned highest = lead == 0xed ? 0x9f : 0xbf;
    return at(1) >= lowest && at(1) <= highest && continues_utf8(at(2)) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const unsigned lowest = lead == 0xf0 ? 0x90 : 0x80;
    const unsigned highest = lead == 0xf4 ? 0x8f : 0xbf;
    return at(1) >= lowest && at(1) <= highest && continues_utf8(at(2)) && continues_utf8(at(3)) ? 4 : 0;
  }
  return 0;
}

}  // namespace splitbench
