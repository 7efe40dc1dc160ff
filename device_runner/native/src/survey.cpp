#include "survey.h"

#include "clock.h"
#include "timing.h"

namespace splitbench {
namespace {

// The program is gone from memory when this ends.
Status measure_program(const Options& options, Reference& reference, const std::optional<Cargo>& cargo,
                       SurveyReport& report) {
  const std::int64_t start = now_ns();
  auto program = Head::load(*options.pte, reference.shape, reference.outputs.size(), nullptr);
  report.load_ns = now_ns() - start;
  if (!program.ok()) {
    return program.failure();
  }
  if (auto status = verify_outputs(**program, reference, options, report.outputs); !status.ok()) {
    return status;
  }
  std::vector<std::int64_t> warmup_ns;
  if (auto status = time_runs(**program, reference.input, options.warmup, warmup_ns); !status.ok()) {
    return status;
  }
  if (auto status = time_runs(**program, reference.input, options.iterations, report.run_ns); !status.ok()) {
    return status;
  }
  if (cargo) {
    auto shipments = ship_survey(**program, *cargo, *options.destination);
    if (!shipments.ok()) {
      return shipments.failure();
    }
    report.shipments = std::move(*shipments);
  }
  report.process.peak_rss_bytes = peak_rss_bytes();
  return Done{};
}

Status profile_program(const Options& options, Reference& reference, Profile& profile) {
  Operators seen;
  auto program = Head::load(*options.pte, reference.shape, reference.outputs.size(), &seen);
  if (!program.ok()) {
    return program.failure();
  }
  std::vector<Operators> runs;
  for (int i = -options.warmup; i < options.iterations; ++i) {
    seen = {};
    if (auto status = run_reference(**program, reference); !status.ok()) {
      return status;
    }
    if (i >= 0) {
      runs.push_back(seen);
    }
  }
  profile = profile_of(runs);
  return Done{};
}

}  // namespace

Status survey(const Options& options, Reference& reference, const std::optional<Cargo>& cargo, SurveyReport& report) {
  auto status = measure_program(options, reference, cargo, report);
  return status.ok() ? profile_program(options, reference, report.profile) : status;
}

}  // namespace splitbench
