// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), the checksum of a frame.
#pragma once

#include <cstddef>
#include <cstdint>

namespace splitbench {

// The checksum of what gave `crc` (0 for nothing) followed by these bytes; by the CPU's own instruction where it has one.
std::uint32_t crc32c_extend(std::uint32_t crc, const void* data, std::size_t size);

// The same by table, on any CPU; public so that a test can hold the fast ways to it.
std::uint32_t crc32c_extend_by_table(std::uint32_t crc, const void* data, std::size_t size);

}  // namespace splitbench
