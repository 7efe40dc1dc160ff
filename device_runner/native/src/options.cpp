#include "options.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <map>

namespace splitbench {
namespace {

constexpr const char* kUsageLine =
    "head_runner [--pte FILE] --reference FILE [--max-abs-err X,..] [--min-cosine X,..] [--zero-point Z,..] --threads N "
    "--warmup W --iterations I|auto [--affinity HEXMASK] [--pictures FILE --connect HOST:PORT --cell HASH,.. --round R "
    "[--link-rate BYTES_PER_S --link-rtt-ns N]] [--write-output FILE] [--power CURRENT_FILE:VOLTAGE_FILE] [--profile]";

constexpr const char* kKnown[] = {"profile", "pte",       "reference",   "max-abs-err", "min-cosine", "zero-point",
                                  "threads", "warmup",    "iterations",  "affinity",    "pictures",   "connect",
                                  "cell",    "round",     "link-rate",   "link-rtt-ns", "power",      "write-output"};

// These are lists, their entries separated by commas: one per output, in the program's order.
constexpr const char* kByOutput[] = {"max-abs-err", "min-cosine", "zero-point", "cell"};

constexpr const char* kOfDestination[] = {"pictures", "connect", "cell", "round"};

Failure usage(const std::string& what) { return {Code::kUsage, what, std::string("usage: ") + kUsageLine}; }

std::vector<std::string> parted_by_commas(const std::string& list) {
  std::vector<std::string> entries;
  std::size_t begin = 0;
  for (std::size_t comma = list.find(','); comma != std::string::npos; comma = list.find(',', begin)) {
    entries.push_back(list.substr(begin, comma - begin));
    begin = comma + 1;
  }
  entries.push_back(list.substr(begin));
  return entries;
}

class Arguments {
 public:
  Status read(int count, const char* const* arguments) {
    for (int i = 1; i < count; ++i) {
      const std::string option = arguments[i];
      if (!known(option)) {
        return usage("unknown option '" + option + "'");
      }
      const bool takes_value = option != "--profile";
      if (takes_value && i + 1 == count) {
        return usage(option + " needs a value");
      }
      if (!values_.emplace(option.substr(2), takes_value ? arguments[++i] : "").second) {
        return usage(option + " is given twice");
      }
    }
    return Done{};
  }

  std::optional<std::string> text(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::nullopt : std::optional(found->second);
  }

  // The values of an option by output; none where it is not given.
  std::vector<std::string> entries(const std::string& name) const {
    const auto written = text(name);
    return written ? parted_by_commas(*written) : std::vector<std::string>();
  }

  // The value of an option for one output; nothing where it is not given, or the list's entry is empty.
  std::optional<std::string> entry(const std::string& name, std::size_t output) const {
    const auto written = entries(name);
    return output < written.size() && !written[output].empty() ? std::optional(written[output]) : std::nullopt;
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

// Reads a number into `target` where one is written.
Status read_real(const std::string& name, const std::optional<std::string>& written, std::optional<double>& target) {
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

Status read_integer(const std::string& name, const std::optional<std::string>& written, int lowest, int highest,
                    int& target) {
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

Status read_iterations(const std::optional<std::string>& written, std::optional<int>& target) {
  if (written == "auto") {
    return Done{};
  }
  return read_integer("iterations", written, 0, 1'000'000, target.emplace());
}

// How many outputs the options tell of: as many as each list has entries; 0 without any.
Result<std::size_t> outputs_of(const Arguments& arguments) {
  std::size_t outputs = 0;
  for (const char* name : kByOutput) {
    const std::size_t entries = arguments.entries(name).size();
    if (entries != 0 && outputs != 0 && entries != outputs) {
      return usage("--" + std::string(name) + " has " + std::to_string(entries) + " entries, another list " +
                   std::to_string(outputs));
    }
    outputs = entries == 0 ? outputs : entries;
  }
  return outputs;
}

Result<std::vector<Tolerance>> tolerances_of(const Arguments& arguments) {
  const auto outputs = outputs_of(arguments);
  if (!outputs.ok()) {
    return outputs.failure();
  }
  std::vector<Tolerance> tolerances(*outputs);
  for (std::size_t i = 0; i < tolerances.size(); ++i) {
    const auto zero_point = arguments.entry("zero-point", i);
    for (const Status& status : {
             read_real("max-abs-err", arguments.entry("max-abs-err", i), tolerances[i].max_abs_err),
             read_real("min-cosine", arguments.entry("min-cosine", i), tolerances[i].min_cosine),
             zero_point ? read_integer("zero-point", zero_point, -128, 127, tolerances[i].zero_point) : Status(Done{}),
         }) {
      if (!status.ok()) {
        return status.failure();
      }
    }
  }
  return tolerances;
}

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
  return std::optional(Destination{*arguments.text("pictures"), *arguments.text("connect"), arguments.entries("cell"),
                                   *arguments.text("round"), std::nullopt});
}

Result<std::optional<LinkShape>> link_shape_of(const Arguments& arguments) {
  if (!arguments.text("link-rate") && !arguments.text("link-rtt-ns")) {
    return std::optional<LinkShape>();
  }
  std::optional<double> rate;
  int rtt_ns = 0;
  if (auto status = read_real("link-rate", arguments.text("link-rate"), rate); !status.ok()) {
    return status.failure();
  }
  if (auto status = read_integer("link-rtt-ns", arguments.text("link-rtt-ns"), 0, 2'000'000'000, rtt_ns); !status.ok()) {
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
  auto tolerances = tolerances_of(given);
  if (!tolerances.ok()) {
    return tolerances.failure();
  }
  options.tolerances = std::move(*tolerances);
  for (const Status& status : {
           read_integer("threads", given.text("threads"), 1, 256, options.threads),
           read_integer("warmup", given.text("warmup"), 0, 1'000'000, options.warmup),
           read_iterations(given.text("iterations"), options.iterations),
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
  options.profile = given.text("profile").has_value();
  options.affinity = given.text("affinity");
  options.write_output = given.text("write-output");
  options.pte = given.text("pte");
  options.reference = given.text("reference");
  if (options.pte && !options.reference) {
    return usage("--reference is missing: nothing is timed unverified");
  }
  if (options.profile && !options.iterations) {
    return usage("--iterations is 'auto': a profile is of a number of them");
  }
  if (!options.pte && (!options.destination || options.profile || options.write_output || options.tolerances.size() > 1)) {
    return usage("--pte is missing: without it pictures can be shipped, but nothing can be run");
  }
  return options;
}

}  // namespace splitbench
