#include "report.h"

#include <cstdio>
#include <fstream>

namespace splitbench {
namespace {

std::string number(const std::optional<double>& value) {
  if (!value) {
    return "null";
  }
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", *value);
  return text;
}

// What `item` writes of each value, as a JSON array.
template <typename Value, typename Item>
std::string array_json(const std::vector<Value>& values, const Item& item) {
  std::string json = "[";
  for (const Value& value : values) {
    json += (json.size() > 1 ? "," : "") + item(value);
  }
  return json + "]";
}

std::string samples(const std::vector<std::int64_t>& values) {
  return array_json(values, [](std::int64_t value) { return std::to_string(value); });
}

std::string time_or_null(const std::optional<std::int64_t>& time_ns) {
  return time_ns ? std::to_string(*time_ns) : "null";
}

std::string verification_json(const std::optional<Verification>& verification) {
  if (!verification) {
    return "null";
  }
  return "{\"max_abs_err\":" + number(verification->max_abs_err) + ",\"cosine\":" + number(verification->cosine) +
         ",\"passed\":" + (verification->passed ? "true" : "false") + "}";
}

std::string shipment_json(const Shipment& shipment) {
  std::string json = "{\"picture\":" + std::to_string(shipment.picture);
  json += ",\"head_ns\":" + time_or_null(shipment.head_ns);
  json += ",\"encode_ns\":" + std::to_string(shipment.encode_ns);
  json += ",\"transfer_ns\":" + std::to_string(shipment.transfer_ns);
  json += ",\"decode_ns\":" + std::to_string(shipment.decode_ns);
  json += ",\"tail_ns\":" + std::to_string(shipment.tail_ns);
  json += ",\"end_to_end_ns\":" + time_or_null(shipment.end_to_end_ns);
  return json + ",\"wire_bytes\":" + std::to_string(shipment.wire_bytes) + "}";
}

std::string output_json(const Output& output, const std::vector<Shipment>& shipments) {
  std::string json = std::string("{\"dtype\":\"") + dtype_name(output.dtype) + "\"";
  json += ",\"shape\":" + shape_text(output.shape);
  json += ",\"verification\":" + verification_json(output.verification);
  return json + ",\"shipments\":" + array_json(shipments, shipment_json) + "}";
}

std::string text_or_null(const std::string& text) { return text.empty() ? "null" : json_text(printable(text)); }

std::string power_json(const Power& power) {
  std::string json = ",\"power_reason\":" + text_or_null(power.reason);
  if (power.drawn) {
    json += ",\"power_mw\":" + number(power.drawn->power_mw);
    json += ",\"energy_mj\":" + number(power.drawn->energy_mj);
    json += ",\"power_samples\":" + std::to_string(power.drawn->samples);
  }
  return json;
}

std::string profile_json(const Profile& profile) {
  std::string json = ",\"profile_reason\":" + text_or_null(profile.reason);
  if (!profile.operators.empty()) {
    const auto name_json = [](const std::string& name) { return json_text(printable(name)); };
    json += ",\"profile\":{\"operators\":" + array_json(profile.operators, name_json);
    json += ",\"times_ns\":" + array_json(profile.times_ns, samples) + "}";
  }
  return json;
}

}  // namespace

std::string to_json(const Report& report) {
  std::string outputs;
  for (std::size_t i = 0; i < report.outputs.size(); ++i) {
    const auto shipments = report.shipments.empty() ? std::vector<Shipment>() : report.shipments[i];
    outputs += (i == 0 ? "" : ",") + output_json(report.outputs[i], shipments);
  }
  std::string json = "{\"load_ns\":" + std::to_string(report.load_ns);
  json += ",\"outputs\":[" + outputs + "]";
  json += ",\"warmup_ns\":" + samples(report.warmup_ns);
  json += ",\"run_ns\":" + samples(report.run_ns);
  json += ",\"peak_rss_bytes\":" + std::to_string(report.peak_rss_bytes);
  json += ",\"threads\":" + std::to_string(report.threads);
  json += ",\"affinity\":" + text_or_null(report.affinity);
  json += ",\"timer_resolution_ns\":" + std::to_string(report.timer.resolution_ns);
  json += ",\"overhead_ns\":" + std::to_string(report.timer.overhead_ns);
  json += report.profile ? profile_json(*report.profile) : "";
  json += report.power ? power_json(*report.power) : "";
  return json + "}";
}

std::uint64_t peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    unsigned long long kib = 0;
    if (std::sscanf(line.c_str(), "VmHWM: %llu kB", &kib) == 1) {
      return kib * 1024;
    }
  }
  return 0;
}

}  // namespace splitbench
