// The loop that head times come from, and what it costs itself.
#pragma once

#include <cstdint>
#include <vector>

#include "program.h"

namespace splitbench {

// Times `count` runs on one input: the clock is read right before and right after each.
Status time_runs(Program& program, std::vector<float>& input, int count, std::vector<std::int64_t>& samples);

// Times runs until enough is known of their median: its 95 % interval lies within 2 % of it to either side, or 1 s has
// passed; 10 runs at least, 1000 at most. Then five rounds together know it to about 1 %, and rounds that are 10 % apart are
// so for other reasons than chance.
Status time_enough_runs(Program& program, std::vector<float>& input, std::vector<std::int64_t>& samples);

struct Timer {
  std::int64_t resolution_ns;  // the smallest step of the clock that was seen
  std::int64_t overhead_ns;    // what a whole iteration of time_runs takes with a program that does nothing (median)
};

Timer measure_timer();

}  // namespace splitbench
