// The command line of head_runner.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "error.h"
#include "link.h"
#include "power.h"
#include "verification.h"

namespace splitbench {

// What a shipping loop needs to know.
struct Destination {
  std::string pictures;  // file: `pictures` U8 [N,3,H,W]
  std::string address;   // host:port of the receiver
  std::vector<std::string> cells;  // one per output
  std::string round;
  std::optional<LinkShape> shape;  // slows the link down while it ships
};

struct Options {
  std::optional<std::string> pte;        // none: split 0, the picture itself travels
  std::optional<std::string> reference;  // file: `picture` U8 [3,H,W] and what it should give: see reference.h
  std::optional<std::string> write_output;  // file: what the program gave, written as a reference
  std::optional<std::string> affinity;  // mask of cores
  std::optional<PowerFiles> power;
  std::optional<Destination> destination;
  std::vector<Tolerance> tolerances;  // one per output; empty: the options list nothing by output
  bool profile = false;               // tell where the program's time goes, once all else is done
  int threads = 0;
  int warmup = 0;
  std::optional<int> iterations;      // none: as many as it takes, see time_enough_runs
};

// Options from the command line; kUsage names what is wrong with it.
Result<Options> parse_options(int count, const char* const* arguments);

}  // namespace splitbench
