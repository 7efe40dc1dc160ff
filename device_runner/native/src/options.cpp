#include "options.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <map>

namespace splitbench {
namespace {

constexpr const char* kUsageLine =
    "head_runner [--pte FILE] --reference FILE [--max-abs-err X] [--min-cosine X] [--zero-point Z] --threads N --warmup W "
    "--iterations I [--affinity HEXMASK] [--pictures FILE --connect HOST:PORT --cell HASH --round R "
    "[--link-rate BYTES_PER_S --link-rtt-ns N]] [--write-output FILE] [--power CURRENT_FILE:VOLTAGE_FILE] [--etdump FILE]";

constexpr const char* kKnown[] = {"pte",        "reference", "max-abs-err", "min-cosine",   "zero-point",
                                  "threads",    "warmup",    "iterations",  "affinity",     "pictures",
                                  "connect",    "cell",      "round",       "link-rate",    "link-rtt-ns",
                                  "write-output", "power",   "etdump"};

constexpr const char* kOfDestination[] = {"pictures", "connect", "cell", "round"};

Failure usage(const std::string& what) { return {Code::kUsage, what, std::string("usage: ") + kUsageLine}; }

class Arguments {
 public:
  Status read(int count, const char* const* arguments) {
    for (int i = 1; i < count; i += 2) {
      const std::string option = arguments[i];
      if (!known(option)) {
        return usage("unknown option '" + option + "'");
      }
      if (i + 1 == count) {
        return usage(option + " needs a value");
      }
      if (!values_.emplace(option.substr(2), arguments[i + 1]).second) {
        return usage(option + " is given twice");
      }
    }
    return Done{};
  }

  std::optional<std::string> text(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::nullopt : std::optional(found->second);
  }

  // Reads a number into `target` where the option is given.
  Status real(const std::string& name, std::optional<double>& target) const {
    const auto written = text(name);
    if (!written) {
      return Done{};
    }
    char* end = nullptr;
    const double value = std::strtod(written->c_str(), &end);
    if (written->empty() || *end != '\0' || !std::isfinite(value)) {
      return usage("--" + name + " is '" + *written + "', not a number");
    }
    target = value;
    return Done{};
  }

  Status integer(const std::string& name, int lowest, int highest, int& target) const {
    const auto written = text(name);
    if (!written) {
      return usage("--" + name + " is missing");
    }
    char* end = nullptr;
    errno = 0;
    const long value = std::strtol(written->c_str(), &end, 10);
    if (written->empty() || *end != '\0' || errno != 0 || value < lowest || value > highest) {
      return usage("--" + name + " is '" + *written + "', not a whole number from " + std::to_string(lowest) + " to " +
                   std::to_string(highest));
    }
    target = static_cast<int>(value);
    return Done{};
  }

 private:
  static bool known(const std::string& option) {
    for (const char* name : kKnown) {
      if (option == std::string("--") + name) {
        return true;
      }
    }
    return false;
  }

  std::map<std::string, std::string> values_;
};

Result<std::optional<Destination>> destination_of(const Arguments& arguments) {
  std::string missing;
  int given = 0;
  for (const char* name : kOfDestination) {
    if (arguments.text(name)) {
      ++given;
    } else {
      missing = name;
    }
  }
  if (given == 0) {
    return std::optional<Destination>();
  }
  if (!missing.empty()) {
    return usage("--" + missing + " is missing: --pictures, --connect, --cell and --round go together");
  }
  return std::optional(Destination{*arguments.text("pictures"), *arguments.text("connect"), *arguments.text("cell"),
                                   *arguments.text("round"), std::nullopt});
}

Result<std::optional<LinkShape>> link_shape_of(const Arguments& arguments) {
  if (!arguments.text("link-rate") && !arguments.text("link-rtt-ns")) {
    return std::optional<LinkShape>();
  }
  std::optional<double> rate;
  int rtt_ns = 0;
  if (auto status = arguments.real("link-rate", rate); !status.ok()) {
    return status.failure();
  }
  if (auto status = arguments.integer("link-rtt-ns", 0, 2'000'000'000, rtt_ns); !status.ok()) {
    return status.failure();
  }
  if (!rate || *rate < 1 || !arguments.text("connect")) {
    return usage("--link-rate (1 or more) and --link-rtt-ns go together, and with --connect");
  }
  return std::optional(LinkShape{*rate, rtt_ns});
}

// The two paths are absolute, so that a colon within one (power supplies have such names) parts nothing.
Result<std::optional<PowerFiles>> power_of(const Arguments& arguments) {
  const auto written = arguments.text("power");
  if (!written) {
    return std::optional<PowerFiles>();
  }
  const std::size_t colon = written->find(":/");
  if (written->compare(0, 1, "/") != 0 || colon == std::string::npos) {
    return usage("--power is '" + *written + "', not two absolute paths with a colon between them");
  }
  return std::optional(PowerFiles{written->substr(0, colon), written->substr(colon + 1)});
}

}  // namespace

Result<Options> parse_options(int count, const char* const* arguments) {
  Arguments given;
  Options options;
  if (auto status = given.read(count, arguments); !status.ok()) {
    return status.failure();
  }
  const auto zero_point = [&] {
    return given.text("zero-point") ? given.integer("zero-point", -128, 127, options.tolerance.zero_point) : Status(Done{});
  };
  for (const Status& status : {
           given.real("max-abs-err", options.tolerance.max_abs_err),
           given.real("min-cosine", options.tolerance.min_cosine),
           zero_point(),
           given.integer("threads", 1, 256, options.threads),
           given.integer("warmup", 0, 1'000'000, options.warmup),
           given.integer("iterations", 0, 1'000'000, options.iterations),
       }) {
    if (!status.ok()) {
      return status.failure();
    }
  }
  auto destination = destination_of(given);
  if (!destination.ok()) {
    return destination.failure();
  }
  options.destination = std::move(*destination);
  auto shape = link_shape_of(given);
  if (!shape.ok()) {
    return shape.failure();
  }
  if (*shape) {
    options.destination->shape = *shape;
  }
  auto power = power_of(given);
  if (!power.ok()) {
    return power.failure();
  }
  options.power = std::move(*power);
  options.affinity = given.text("affinity");
  options.write_output = given.text("write-output");
  options.pte = given.text("pte");
  options.reference = given.text("reference");
  options.etdump = given.text("etdump");
  if (options.pte && !options.reference) {
    return usage("--reference is missing: no head is timed unverified");
  }
  if (!options.pte && (!options.destination || options.etdump || options.write_output)) {
    return usage("--pte is missing: without it pictures can be shipped, but nothing can be run");
  }
  return options;
}

}  // namespace splitbench
