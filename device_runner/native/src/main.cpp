// head_runner: verifies a program, times it, ships its activations. One JSON object on standard output, or one line on
// standard error and an exit status of its own (error.h); after a failed verification both.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <vector>

#include "affinity.h"
#include "cargo.h"
#include "clock.h"
#include "crash.h"
#include "options.h"
#include "pictures.h"
#include "profile.h"
#include "program.h"
#include "reference.h"
#include "report.h"
#include "shipping.h"
#include "timing.h"

namespace splitbench {
namespace {

Status check_same_size(const Reference& reference, const Cargo& cargo, const Destination& destination) {
  const Shape shape = batch_of_one(cargo.pictures.shape);
  if (shape == reference.shape) {
    return Done{};
  }
  return Failure{Code::kInputMismatch,
                 destination.pictures + ": pictures are " + shape_text(shape) + ", the reference " + shape_text(reference.shape),
                 "use pictures of the head's input size"};
}

// The program is gone from memory when this ends.
Status measure_program(const Options& options, Reference& reference, const std::optional<Cargo>& cargo, Report& report) {
  const std::int64_t start = now_ns();
  auto program = Program::load(*options.pte, reference.shape, reference.outputs.size(), nullptr);
  report.load_ns = now_ns() - start;
  if (!program.ok()) {
    return program.failure();
  }
  if (auto status = verify_outputs(**program, reference, options, report.outputs); !status.ok()) {
    return status;
  }
  if (auto status = time_runs(**program, reference.input, options.warmup, report.warmup_ns); !status.ok()) {
    return status;
  }
  auto timed = options.iterations ? time_runs(**program, reference.input, *options.iterations, report.run_ns)
                                  : time_enough_runs(**program, reference.input, report.run_ns);
  if (!timed.ok()) {
    return timed;
  }
  if (cargo) {
    auto shipments = ship(program->get(), *cargo, *options.destination);
    if (!shipments.ok()) {
      return shipments.failure();
    }
    report.shipments = std::move(*shipments);
  }
  report.peak_rss_bytes = peak_rss_bytes();
  if (options.power) {
    auto power = measure_power(**program, reference.input, *options.power);
    if (!power.ok()) {
      return power.failure();
    }
    report.power = std::move(*power);
  }
  return Done{};
}

// Runs a second copy, so that the samples are free of the profiler.
Status profile_program(const Options& options, Reference& reference, Report& report) {
  Operators seen;
  auto program = Program::load(*options.pte, reference.shape, reference.outputs.size(), &seen);
  if (!program.ok()) {
    return program.failure();
  }
  std::vector<Operators> runs;
  for (int i = -options.warmup; i < *options.iterations; ++i) {
    seen = {};
    if (auto status = run_reference(**program, reference); !status.ok()) {
      return status;
    }
    if (i >= 0) {
      runs.push_back(seen);
    }
  }
  report.profile = profile_of(runs);
  return Done{};
}

Status ship_pictures(const Options& options, const Cargo& cargo, Report& report) {
  report.outputs = {{Dtype::kU8, batch_of_one(cargo.pictures.shape), std::nullopt}};
  if (options.power) {
    report.power = Power{std::nullopt, "no head runs here"};
  }
  auto shipments = ship(nullptr, cargo, *options.destination);
  if (!shipments.ok()) {
    return shipments.failure();
  }
  report.shipments = std::move(*shipments);
  report.peak_rss_bytes = peak_rss_bytes();
  return Done{};
}

Status measure(const Options& options, const std::optional<Cargo>& cargo, Report& report) {
  if (!options.pte) {
    return ship_pictures(options, *cargo, report);
  }
  auto reference = read_reference(options);
  if (!reference.ok()) {
    return reference.failure();
  }
  if (cargo) {
    if (auto same = check_same_size(*reference, *cargo, *options.destination); !same.ok()) {
      return same;
    }
  }
  auto status = measure_program(options, *reference, cargo, report);
  return status.ok() && options.profile ? profile_program(options, *reference, report) : status;
}

// Prints the report. A verification that failed is reported too: its numbers tell why.
Status print(Report& report, Status outcome) {
  if (!outcome.ok() && outcome.failure().code != Code::kVerificationFailed) {
    return outcome;
  }
  if (report.peak_rss_bytes == 0) {
    report.peak_rss_bytes = peak_rss_bytes();
  }
  const std::string json = to_json(report);
  if (std::puts(json.c_str()) < 0 || std::fflush(stdout) != 0) {
    return Failure{Code::kOutputUnwritable, std::string("standard output: ") + std::strerror(errno), "free some space"};
  }
  return outcome;
}

Status run(int count, char** arguments) {
  const auto options = parse_options(count, arguments);
  if (!options.ok()) {
    return options.failure();
  }
  if (options->affinity) {
    if (auto status = restrict_cores(*options->affinity); !status.ok()) {
      return status;
    }
  }
  std::optional<Cargo> cargo;
  if (options->destination) {
    auto read = read_cargo(*options->destination);
    if (!read.ok()) {
      return read.failure();
    }
    cargo = std::move(*read);
  }
  const auto threads = set_threads(options->threads);
  if (!threads.ok()) {
    return threads.failure();
  }
  Report report;
  report.threads = *threads;
  report.affinity = allowed_cores();
  report.timer = measure_timer();
  return print(report, measure(*options, cargo, report));
}

}  // namespace
}  // namespace splitbench

int main(int count, char** arguments) {
  using namespace splitbench;
  install_crash_handler();
  Status status = Done{};
  try {
    status = run(count, arguments);
  } catch (const std::exception& exception) {  // the standard library's own: above all, no memory left
    status = Failure{Code::kExecutionFailed, std::string("stopped by ") + exception.what(), "free some memory"};
  }
  if (status.ok()) {
    return static_cast<int>(Code::kOk);
  }
  std::fprintf(stderr, "%s\n", one_line(status.failure()).c_str());
  return static_cast<int>(status.failure().code);
}
