// A frame: u64 length of the payload | u32 crc32c of the payload | payload (canonical safetensors), all little-endian.
// device_runner/frames.py is the other side; tests hold the two together byte for byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "safetensors.h"

namespace splitbench {

constexpr std::size_t kPrefixBytes = 12;

struct Prefix {
  std::uint64_t payload_bytes;
  std::uint32_t crc;
};

Prefix decode_prefix(const std::array<std::uint8_t, kPrefixBytes>& bytes);

// A frame ready to be sent: the tensors' bytes stay where they are.
struct EncodedFrame {
  std::string head;                // prefix and safetensors header
  std::vector<TensorView> bodies;  // in the order in which they follow it
  std::uint64_t bytes;             // of all of it: what travels
};

EncodedFrame encode_frame(const Document& document);

// The payload of a frame: CRC first, then content, which must be canonical. Views into `data`; kFrameDamaged otherwise.
Result<Document> decode_payload(const std::uint8_t* data, std::size_t size, std::uint32_t crc);

}  // namespace splitbench
