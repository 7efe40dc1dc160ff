#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames and safetensors are little-endian");

namespace splitbench {
namespace {

using Extend = std::uint32_t (*)(std::uint32_t, const void*, std::size_t);

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78u : 0u);
    }
    table[byte] = value;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kTable = make_table();

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) std::uint32_t extend_by_sse42(std::uint32_t crc, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  std::uint64_t state = ~crc;
  for (; size >= 8; bytes += 8, size -= 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes, 8);
    state = _mm_crc32_u64(state, word);
  }
  for (; size > 0; ++bytes, --size) {
    state = _mm_crc32_u8(static_cast<std::uint32_t>(state), *bytes);
  }
  return ~static_cast<std::uint32_t>(state);
}

Extend fastest() { return __builtin_cpu_supports("sse4.2") ? extend_by_sse42 : crc32c_extend_by_table; }

#elif defined(__aarch64__)

__attribute__((target("+crc"))) std::uint32_t extend_by_armv8(std::uint32_t crc, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  std::uint32_t state = ~crc;
  for (; size >= 8; bytes += 8, size -= 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes, 8);
    state = __crc32cd(state, word);
  }
  for (; size > 0; ++bytes, --size) {
    state = __crc32cb(state, *bytes);
  }
  return ~state;
}

Extend fastest() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0 ? extend_by_armv8 : crc32c_extend_by_table; }

#else

Extend fastest() { return crc32c_extend_by_table; }

#endif

}  // namespace

std::uint32_t crc32c_extend_by_table(std::uint32_t crc, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  std::uint32_t state = ~crc;
  for (; size > 0; ++bytes, --size) {
    state = (state >> 8) ^ kTable[(state ^ *bytes) & 0xff];
  }
  return ~state;
}

std::uint32_t crc32c_extend(std::uint32_t crc, const void* data, std::size_t size) {
  static const Extend extend = fastest();
  return extend(crc, data, size);
}

}  // namespace splitbench
