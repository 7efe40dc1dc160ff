#include "frame.h"

#include <cstring>

#include "crc32c.h"

namespace splitbench {

Prefix decode_prefix(const std::array<std::uint8_t, kPrefixBytes>& bytes) {
  Prefix prefix{};
  std::memcpy(&prefix.payload_bytes, bytes.data(), sizeof prefix.payload_bytes);
  std::memcpy(&prefix.crc, bytes.data() + sizeof prefix.payload_bytes, sizeof prefix.crc);
  return prefix;
}

EncodedFrame encode_frame(const Document& document) {
  const std::string header = canonical_header(document);
  EncodedFrame frame;
  std::uint64_t payload_bytes = header.size();
  std::uint32_t crc = crc32c_extend(0, header.data(), header.size());
  for (const auto& [name, tensor] : document.tensors) {
    crc = crc32c_extend(crc, tensor.data, tensor.bytes());
    payload_bytes += tensor.bytes();
    frame.bodies.push_back(tensor);
  }
  frame.head.reserve(kPrefixBytes + header.size());
  frame.head.append(reinterpret_cast<const char*>(&payload_bytes), sizeof payload_bytes);
  frame.head.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  frame.head += header;
  frame.bytes = kPrefixBytes + payload_bytes;
  return frame;
}

Result<Document> decode_payload(const std::uint8_t* data, std::size_t size, std::uint32_t crc) {
  if (crc32c_extend(0, data, size) != crc) {
    return Failure{Code::kFrameDamaged, "a frame's checksum does not match its content", "check the link and run again"};
  }
  auto document = parse_safetensors(data, size);
  if (!document.ok()) {
    return Failure{Code::kFrameDamaged, "a frame is damaged: " + document.failure().what, "use one version on both sides"};
  }
  const std::string header = canonical_header(*document);
  if (std::memcmp(header.data(), data, std::min(header.size(), size)) != 0) {
    return Failure{Code::kFrameDamaged, "a frame's header is not canonical", "use one version on both sides"};
  }
  return document;
}

}  // namespace splitbench
