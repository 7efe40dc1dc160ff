// head_runner: verifies a head, times it, ships its activations. One JSON object on standard output, or one line on
// standard error and an exit status of its own (error.h); after a failed verification both.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>

#include "affinity.h"
#include "clock.h"
#include "crash.h"
#include "head.h"
#include "options.h"
#include "output.h"
#include "pictures.h"
#include "report.h"
#include "shipping.h"
#include "timing.h"

namespace splitbench {
namespace {

constexpr std::size_t kMaxTokenBytes = 1024;

// The reference picture as the head takes it, and the activation that it should give. `file` owns both.
struct Reference {
  SafetensorsFile file;
  TensorView picture;
  Shape shape;
  std::vector<float> input;
  TensorView activation;
};

Result<Reference> read_reference(const std::string& path) {
  auto file = SafetensorsFile::read(path);
  if (!file.ok()) {
    return file.failure();
  }
  const auto picture = file->tensor("picture", Dtype::kU8, 3);
  if (!picture.ok()) {
    return picture.failure();
  }
  const auto activation = file->tensor("activation");
  if (!activation.ok()) {
    return activation.failure();
  }
  std::vector<float> input(picture->elements());
  to_unit_range(picture->data, input);
  return Reference{std::move(*file), *picture, batch_of_one(picture->shape), std::move(input), *activation};
}

// The pictures to ship, and the token that opens the connection. `file` owns the pictures.
struct Cargo {
  SafetensorsFile file;
  TensorView pictures;
  std::string token;
};

Result<std::string> read_token() {
  char line[kMaxTokenBytes + 2];
  std::string token = std::fgets(line, sizeof line, stdin) == nullptr ? "" : line;
  token.erase(token.find_last_not_of("\r\n") + 1);
  if (token.empty() || token.size() > kMaxTokenBytes) {
    return Failure{Code::kUsage, "no token on standard input", "give the run's token as its first line"};
  }
  return token;
}

Result<Cargo> read_cargo(const Destination& destination) {
  auto token = read_token();
  if (!token.ok()) {
    return token.failure();
  }
  auto file = SafetensorsFile::read(destination.pictures);
  if (!file.ok()) {
    return file.failure();
  }
  const auto pictures = file->tensor("pictures", Dtype::kU8, 4);
  if (!pictures.ok()) {
    return pictures.failure();
  }
  if (pictures->shape[1] != 3) {
    return Failure{Code::kInputMismatch, destination.pictures + ": pictures of " + shape_text(pictures->shape) + " are not RGB",
                   "write them as [N,3,H,W]"};
  }
  return Cargo{std::move(*file), *pictures, *token};
}

Status check_same_size(const Reference& reference, const Cargo& cargo, const Destination& destination) {
  const Shape shape = batch_of_one(cargo.pictures.shape);
  if (shape == reference.shape) {
    return Done{};
  }
  return Failure{Code::kInputMismatch,
                 destination.pictures + ": pictures are " + shape_text(shape) + ", the reference " + shape_text(reference.shape),
                 "use pictures of the head's input size"};
}

Status run_reference(Head& head, Reference& reference) {
  auto status = head.set_input(reference.input.data());
  return status.ok() ? head.run() : status;
}

// Verifies the head's output on the reference picture; the numbers go into the report either way. One that passes is
// written where that was asked for.
Status verify_head(Head& head, Reference& reference, const Options& options, Report& report) {
  if (auto status = run_reference(head, reference); !status.ok()) {
    return status;
  }
  const auto output = head.output();
  if (!output.ok()) {
    return output.failure();
  }
  report.output_dtype = output->dtype;
  report.output_shape = output->shape;
  report.verification = verify(*output, reference.activation, options.tolerance);
  if (report.verification->passed) {
    return options.write_output
               ? write_document(*options.write_output, {{}, {{"picture", reference.picture}, {"activation", *output}}})
               : Status(Done{});
  }
  const auto described = [](const TensorView& tensor) {
    return std::string(dtype_name(tensor.dtype)) + " " + shape_text(tensor.shape);
  };
  return Failure{Code::kVerificationFailed,
                 *options.pte + ": its output " + described(*output) + " is not the reference " +
                     described(reference.activation) + " within the tolerance",
                 "check that head and reference come from one export"};
}

// A second copy of the head runs under the profiler, so that the samples are free of it.
Status write_profile(const Options& options, Reference& reference) {
  const auto unwritable = [&](int error) {
    return Failure{Code::kOutputUnwritable, *options.etdump + ": " + std::strerror(error), "free some space, or write elsewhere"};
  };
  std::FILE* file = std::fopen(options.etdump->c_str(), "wb");
  if (file == nullptr) {
    return unwritable(errno);
  }
  const auto profiled = [&]() -> Result<std::string> {
    auto head = Head::load(*options.pte, reference.shape, Head::Profiling::kOn);
    if (!head.ok()) {
      return head.failure();
    }
    for (int i = 0; i < options.iterations; ++i) {
      if (auto status = run_reference(**head, reference); !status.ok()) {
        return status.failure();
      }
    }
    return (*head)->profile();
  };
  const auto profile = profiled();
  const bool written = profile.ok() && std::fwrite(profile->data(), 1, profile->size(), file) == profile->size();
  const bool closed = std::fclose(file) == 0;
  if (!profile.ok()) {
    return profile.failure();
  }
  return written && closed ? Status(Done{}) : Status(unwritable(errno));
}

Status measure_head(const Options& options, Reference& reference, const std::optional<Cargo>& cargo, Report& report) {
  set_stage("loading the head", Code::kProgramDamaged);
  const std::int64_t start = now_ns();
  auto head = Head::load(*options.pte, reference.shape, Head::Profiling::kOff);
  report.load_ns = now_ns() - start;
  if (!head.ok()) {
    return head.failure();
  }
  set_stage("running the head", Code::kExecutionFailed);
  if (auto status = verify_head(**head, reference, options, report); !status.ok()) {
    return status;
  }
  if (auto status = time_runs(**head, reference.input, options.warmup, report.warmup_ns); !status.ok()) {
    return status;
  }
  if (auto status = time_runs(**head, reference.input, options.iterations, report.head_ns); !status.ok()) {
    return status;
  }
  if (cargo) {
    auto shipments = ship(head->get(), cargo->pictures, *options.destination, cargo->token);
    if (!shipments.ok()) {
      return shipments.failure();
    }
    report.shipments = std::move(*shipments);
  }
  report.peak_rss_bytes = peak_rss_bytes();
  if (options.power) {
    auto power = measure_power(**head, reference.input, *options.power);
    if (!power.ok()) {
      return power.failure();
    }
    report.power = std::move(*power);
  }
  return options.etdump ? write_profile(options, reference) : Status(Done{});
}

Status ship_pictures(const Options& options, const Cargo& cargo, Report& report) {
  report.output_shape = batch_of_one(cargo.pictures.shape);
  if (options.power) {
    report.power = Power{std::nullopt, "no head runs here"};
  }
  auto shipments = ship(nullptr, cargo.pictures, *options.destination, cargo.token);
  if (!shipments.ok()) {
    return shipments.failure();
  }
  report.shipments = std::move(*shipments);
  report.peak_rss_bytes = peak_rss_bytes();
  return Done{};
}

// A verification that failed is reported too: its numbers tell why.
Status print_report(Report& report) {
  if (report.peak_rss_bytes == 0) {
    report.peak_rss_bytes = peak_rss_bytes();
  }
  const std::string json = to_json(report);
  if (std::puts(json.c_str()) < 0 || std::fflush(stdout) != 0) {
    return Failure{Code::kOutputUnwritable, std::string("standard output: ") + std::strerror(errno), "free some space"};
  }
  return Done{};
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
  Status outcome = Done{};
  if (options->pte) {
    auto reference = read_reference(*options->reference);
    if (!reference.ok()) {
      return reference.failure();
    }
    if (cargo) {
      if (auto same = check_same_size(*reference, *cargo, *options->destination); !same.ok()) {
        return same;
      }
    }
    outcome = measure_head(*options, *reference, cargo, report);
  } else {
    outcome = ship_pictures(*options, *cargo, report);
  }
  if (!outcome.ok() && outcome.failure().code != Code::kVerificationFailed) {
    return outcome;
  }
  const auto printed = print_report(report);
  return printed.ok() ? outcome : printed;
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
