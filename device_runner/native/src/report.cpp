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

std::string samples(const std::vector<std::int64_t>& values) {
  std::string json = "[";
  for (const std::int64_t value : values) {
    json += (json.size() > 1 ? "," : "") + std::to_string(value);
  }
  return json + "]";
}

std::string verification_json(const std::optional<Verification>& verification) {
  if (!verification) {
    return "null";
  }
  return "{\"max_abs_err\":" + number(verification->max_abs_err) + ",\"cosine\":" + number(verification->cosine) +
         ",\"passed\":" + (verification->passed ? "true" : "false") + "}";
}

std::string shipments_json(const std::vector<Shipment>& shipments) {
  std::string json = "[";
  for (const Shipment& shipment : shipments) {
    json += (json.size() > 1 ? ",{" : "{");
    json += "\"picture\":" + std::to_string(shipment.picture);
    json += ",\"head_ns\":" + std::to_string(shipment.head_ns);
    json += ",\"transfer_ns\":" + std::to_string(shipment.transfer_ns);
    json += ",\"tail_ns\":" + std::to_string(shipment.tail_ns);
    json += ",\"end_to_end_ns\":" + std::to_string(shipment.end_to_end_ns);
    json += ",\"wire_bytes\":" + std::to_string(shipment.wire_bytes) + "}";
  }
  return json + "]";
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

}  // namespace

std::string to_json(const Report& report) {
  std::string json = "{\"load_ns\":" + std::to_string(report.load_ns);
  json += ",\"verification\":" + verification_json(report.verification);
  json += std::string(",\"output\":{\"dtype\":\"") + dtype_name(report.output_dtype) + "\",\"shape\":";
  json += shape_text(report.output_shape) + "}";
  json += ",\"warmup_ns\":" + samples(report.warmup_ns);
  json += ",\"head_ns\":" + samples(report.head_ns);
  json += ",\"shipments\":" + shipments_json(report.shipments);
  json += ",\"peak_rss_bytes\":" + std::to_string(report.peak_rss_bytes);
  json += ",\"threads\":" + std::to_string(report.threads);
  json += ",\"affinity\":" + text_or_null(report.affinity);
  json += ",\"timer_resolution_ns\":" + std::to_string(report.timer.resolution_ns);
  json += ",\"overhead_ns\":" + std::to_string(report.timer.overhead_ns);
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
