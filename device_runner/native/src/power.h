// What a head draws, where the system tells: Linux and Android give current and voltage as files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "program.h"

namespace splitbench {

struct PowerFiles {
  std::string current;  // microampere as text; the sign tells the direction and is not looked at
  std::string voltage;  // microvolt
};

struct Drawn {
  double power_mw;   // mean of |current x voltage| over a loop of its own
  double energy_mj;  // of one run: that power times the mean head time of the loop
  int samples;
};

// Drawn, or why it is not known.
struct Power {
  std::optional<Drawn> drawn;
  std::string reason;
};

// Runs the head for two seconds, and at least three times, while a second thread reads the files every 50 ms. A device
// that does not tell is no failure; a head that cannot be run is.
Result<Power> measure_power(Program& head, std::vector<float>& input, const PowerFiles& files);

}  // namespace splitbench
