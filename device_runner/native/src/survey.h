// A survey: one program that gives the activations of many split points.
#pragma once

#include <optional>

#include "cargo.h"
#include "options.h"
#include "reference.h"
#include "report.h"

namespace splitbench {

// Verifies every output, times the whole program, ships each activation as the head of its cell would; then profiles a
// second copy, so that the samples are free of the profiler.
Status survey(const Options& options, Reference& reference, const std::optional<Cargo>& cargo, SurveyReport& report);

}  // namespace splitbench
