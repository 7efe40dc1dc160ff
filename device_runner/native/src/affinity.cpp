#include "affinity.h"

#include <sched.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace splitbench {
namespace {

constexpr const char* kWriteMask = "give the cores' bits in hexadecimal: 3 for cores 0 and 1, f0 for cores 4 to 7";

std::optional<int> hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') {
    return digit - '0';
  }
  const char lower = static_cast<char>(digit | 0x20);
  return lower >= 'a' && lower <= 'f' ? std::optional(lower - 'a' + 10) : std::nullopt;
}

std::optional<cpu_set_t> read_mask(const std::string& mask) {
  const std::string digits = mask.compare(0, 2, "0x") == 0 ? mask.substr(2) : mask;
  if (digits.empty() || digits.size() * 4 > CPU_SETSIZE) {
    return std::nullopt;
  }
  cpu_set_t cores;
  CPU_ZERO(&cores);
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const auto digit = hex_digit(digits[digits.size() - 1 - i]);
    if (!digit) {
      return std::nullopt;
    }
    for (std::size_t bit = 0; bit < 4; ++bit) {
      if ((*digit >> bit & 1) != 0) {
        CPU_SET(i * 4 + bit, &cores);
      }
    }
  }
  return cores;
}

}  // namespace

Status restrict_cores(const std::string& mask) {
  const auto cores = read_mask(mask);
  if (!cores) {
    return Failure{Code::kUsage, "--affinity is '" + mask + "', not a mask of cores", kWriteMask};
  }
  if (::sched_setaffinity(0, sizeof *cores, &*cores) == 0) {
    return Done{};
  }
  const int error = errno;
  // The kernel leaves out cores that are not there or are closed to us, and refuses when none is left.
  const std::string why =
      error == EINVAL ? "none of its cores can be used, only those of " + allowed_cores() : std::strerror(error);
  return Failure{Code::kUsage, "--affinity " + mask + ": " + why, kWriteMask};
}

std::string allowed_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof cores, &cores) != 0) {
    return {};
  }
  std::string mask;
  for (std::size_t first = CPU_SETSIZE; first >= 4; first -= 4) {
    int digit = 0;
    for (std::size_t bit = 1; bit <= 4; ++bit) {
      digit = digit * 2 + (CPU_ISSET(first - bit, &cores) ? 1 : 0);
    }
    if (digit != 0 || !mask.empty()) {
      mask += "0123456789abcdef"[digit];
    }
  }
  return mask;
}

}  // namespace splitbench
