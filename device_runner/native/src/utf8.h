// UTF-8, strictly.
#pragma once

#include <cstddef>

namespace splitbench {

// The bytes of the UTF-8 sequence at `text`, or 0 where there is none (RFC 3629: shortest form, no surrogates).
std::size_t utf8_sequence_bytes(const char* text, const char* end);

}  // namespace splitbench
