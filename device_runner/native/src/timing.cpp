#include "timing.h"

#include <algorithm>
#include <cmath>

#include "clock.h"

namespace splitbench {
namespace {

constexpr std::size_t kFewestRuns = 10;
constexpr std::size_t kMostRuns = 1000;
constexpr std::int64_t kLongEnoughNs = 1'000'000'000;
constexpr double kNarrow = 0.02;

constexpr int kSteps = 10'000;
constexpr int kEmptyIterations = 1001;  // odd: the median is one of them

class EmptyProgram final : public Program {
 public:
  Status set_input(float*) override { return Done{}; }
  Status run() override { return Done{}; }
  Result<TensorView> output(std::size_t) override {
    return Failure{Code::kExecutionFailed, "nothing was run", "run a program"};
  }
};

// Whether the 95 % interval of the median is narrow. Its ends are two of the samples, as far from the middle of their order
// as heads and tails of so many fair coins differ, so that nothing is supposed of how they are distributed (Conover,
// Practical Nonparametric Statistics, 3.2). Samples of one round are alike, so that it is a little too narrow: it only says
// when to stop.
bool is_narrow(std::vector<std::int64_t> samples) {
  const auto count = static_cast<double>(samples.size());
  const auto below = static_cast<std::ptrdiff_t>(count / 2 - 1.96 * std::sqrt(count) / 2 - 0.5);
  std::sort(samples.begin(), samples.end());
  const auto median = static_cast<double>(samples[samples.size() / 2]);
  const auto low = static_cast<double>(*(samples.begin() + below));
  const auto high = static_cast<double>(*(samples.end() - 1 - below));
  return low >= (1 - kNarrow) * median && high <= (1 + kNarrow) * median;
}

std::int64_t clock_step_ns() {
  std::int64_t smallest = 0;
  std::int64_t last = now_ns();
  for (int i = 0; i < kSteps || smallest == 0; ++i) {
    const std::int64_t now = now_ns();
    if (now != last && (smallest == 0 || now - last < smallest)) {
      smallest = now - last;
    }
    last = now;
  }
  return smallest;
}

std::int64_t empty_iteration_ns() {
  EmptyProgram program;
  std::vector<float> input;
  std::vector<std::int64_t> sample;
  std::vector<std::int64_t> taken;
  sample.reserve(1);
  taken.reserve(kEmptyIterations);
  for (int i = 0; i < kEmptyIterations; ++i) {
    sample.clear();
    const std::int64_t start = now_ns();
    const auto status = time_runs(program, input, 1, sample);
    const std::int64_t end = now_ns();
    if (status.ok()) {
      taken.push_back(end - start);
    }
  }
  const auto middle = taken.begin() + static_cast<std::ptrdiff_t>(taken.size() / 2);
  std::nth_element(taken.begin(), middle, taken.end());
  return *middle;
}

}  // namespace

// Not inlined, so that a program that does nothing goes through the same code as one that does something.
__attribute__((noinline)) Status time_runs(Program& program, std::vector<float>& input, int count,
                                           std::vector<std::int64_t>& samples) {
  samples.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    if (auto status = program.set_input(input.data()); !status.ok()) {
      return status;
    }
    const std::int64_t start = now_ns();
    auto status = program.run();
    const std::int64_t end = now_ns();
    if (!status.ok()) {
      return status;
    }
    samples.push_back(end - start);
  }
  return Done{};
}

Status time_enough_runs(Program& program, std::vector<float>& input, std::vector<std::int64_t>& samples) {
  samples.reserve(kMostRuns);
  const std::int64_t start = now_ns();
  // In blocks: to look at the samples after each run would take longer than a small head does, and disturb the next.
  for (std::size_t more = kFewestRuns; more > 0; more = std::min(samples.size() / 4, kMostRuns - samples.size())) {
    if (auto status = time_runs(program, input, static_cast<int>(more), samples); !status.ok()) {
      return status;
    }
    if (is_narrow(samples) || now_ns() - start >= kLongEnoughNs) {
      return Done{};
    }
  }
  return Done{};
}

Timer measure_timer() { return {clock_step_ns(), empty_iteration_ns()}; }

}  // namespace splitbench
