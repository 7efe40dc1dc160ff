// What head_runner prints: one JSON object with every sample.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "error.h"
#include "power.h"
#include "profile.h"
#include "reference.h"
#include "shipping.h"
#include "timing.h"

namespace splitbench {

struct Report {
  std::int64_t load_ns = 0;
  std::vector<Output> outputs;
  std::vector<std::vector<Shipment>> shipments;  // by output, each by picture; empty where nothing was shipped
  std::vector<std::int64_t> warmup_ns;
  std::vector<std::int64_t> run_ns;  // of the whole program
  std::uint64_t peak_rss_bytes = 0;
  int threads = 0;
  std::string affinity;  // mask of the cores allowed; empty where the kernel does not tell
  Timer timer{};
  std::optional<Profile> profile;  // this and power: none where nobody asked
  std::optional<Power> power;
};

std::string to_json(const Report& report);

// The most memory that this program had in RAM so far. From /proc (VmHWM): getrusage would give the parent's where that
// was larger, as exec keeps the mark.
std::uint64_t peak_rss_bytes();

}  // namespace splitbench
