// The loops that head times come from, around a program that takes as long as it is told: built with sanitizers, for tests.
//   timing_tool NS..    runs for as long as the first number says, then the next, over and over; prints every sample
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "clock.h"
#include "timing.h"

using namespace splitbench;

namespace {

class Scripted final : public Program {
 public:
  explicit Scripted(std::vector<std::int64_t> durations_ns) : durations_ns_(std::move(durations_ns)) {}

  Status set_input(float*) override { return Done{}; }
  Status run() override {
    const std::int64_t end = now_ns() + durations_ns_[runs_++ % durations_ns_.size()];
    while (now_ns() < end) {
    }
    return Done{};
  }
  Result<TensorView> output(std::size_t) override { return Failure{Code::kUsage, "nothing was run", "run a program"}; }

 private:
  std::vector<std::int64_t> durations_ns_;
  std::size_t runs_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::int64_t> durations_ns;
  for (int i = 1; i < count; ++i) {
    durations_ns.push_back(std::atoll(arguments[i]));
  }
  Scripted program(durations_ns);
  std::vector<float> input;
  std::vector<std::int64_t> samples;
  if (durations_ns.empty() || !time_enough_runs(program, input, samples).ok()) {
    return static_cast<int>(Code::kUsage);
  }
  for (const std::int64_t sample : samples) {
    std::printf("%lld\n", static_cast<long long>(sample));
  }
  return 0;
}
