// Where the time of a run goes: its operators, from ExecuTorch's own events.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace executorch::runtime {
class EventTracer;
}

namespace splitbench {

// What ran, in the order in which it ended.
struct Operators {
  std::vector<std::string> names;
  std::vector<std::int64_t> times_ns;
};

// A tracer that adds to `operators` whatever runs under it.
std::unique_ptr<executorch::runtime::EventTracer> trace_into(Operators& operators);

struct Profile {
  std::vector<std::string> operators;
  std::vector<std::vector<std::int64_t>> times_ns;  // by run, each by operator
  std::string reason;                               // why there is none; the rest is empty then
};

// The runs of one program as a profile: there is none unless all of them consist of the same operators.
Profile profile_of(const std::vector<Operators>& runs);

}  // namespace splitbench
