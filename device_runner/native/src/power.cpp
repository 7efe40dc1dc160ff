#include "power.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "clock.h"
#include "timing.h"

namespace splitbench {
namespace {

constexpr std::int64_t kLongEnoughNs = 2'000'000'000;
constexpr int kEnoughRuns = 3;
constexpr auto kPeriod = std::chrono::milliseconds(50);
constexpr double kPicowattsPerMilliwatt = 1e9;

// Reads the whole number in a file: 0, or what errno would be (EINVAL for anything but a number). Neither throws nor
// allocates: it is called on a thread of its own, while a head runs.
int read_number(const char* path, double& number) {
  const int descriptor = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    return errno;
  }
  char text[32];
  const ssize_t got = ::read(descriptor, text, sizeof text - 1);
  const int error = got < 0 ? errno : 0;
  ::close(descriptor);
  if (error != 0) {
    return error;
  }
  text[got] = '\0';
  char* end = nullptr;
  number = static_cast<double>(std::strtoll(text, &end, 10));
  return end != text && (*end == '\0' || *end == '\n') ? 0 : EINVAL;
}

class Meter {
 public:
  explicit Meter(const PowerFiles& files) : files_(files) {}
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;
  ~Meter() { stop(); }

  // One reading; false where the files cannot be read: reason() tells then.
  bool take() {
    double current = 0;
    double voltage = 0;
    error_ = read_number(files_.current.c_str(), current);
    unreadable_ = &files_.current;
    if (error_ == 0) {
      error_ = read_number(files_.voltage.c_str(), voltage);
      unreadable_ = &files_.voltage;
    }
    if (error_ != 0) {
      return false;
    }
    sum_mw_ += std::abs(current * voltage) / kPicowattsPerMilliwatt;
    ++samples_;
    return true;
  }

  void start() {
    sum_mw_ = 0;
    samples_ = 0;
    thread_ = std::thread([this] { watch(); });
  }

  void stop() {
    stopped_.store(true);
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  // After stop(), or before start().
  double mean_mw() const { return sum_mw_ / samples_; }
  int samples() const { return samples_; }

  std::string reason() const {
    if (error_ != 0) {
      return *unreadable_ + ": " + (error_ == EINVAL ? "holds no number" : std::strerror(error_));
    }
    if (samples_ == 0) {
      return files_.current + ": no reading was taken while the head ran";
    }
    return sum_mw_ == 0 ? files_.current + ": always 0, so that the current is not measured here" : "";
  }

 private:
  void watch() {
    for (auto due = std::chrono::steady_clock::now() + kPeriod; !stopped_.load(); due += kPeriod) {
      std::this_thread::sleep_until(due);
      if (stopped_.load() || !take()) {
        return;
      }
    }
  }

  const PowerFiles& files_;
  double sum_mw_ = 0;
  int samples_ = 0;
  int error_ = 0;
  const std::string* unreadable_ = nullptr;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

}  // namespace

Result<Power> measure_power(Program& head, std::vector<float>& input, const PowerFiles& files) {
  Meter meter(files);
  if (!meter.take()) {
    return Power{std::nullopt, meter.reason()};
  }
  meter.start();
  std::vector<std::int64_t> sample_ns;
  double head_s = 0;
  int runs = 0;
  for (const std::int64_t start = now_ns(); runs < kEnoughRuns || now_ns() - start < kLongEnoughNs; ++runs) {
    sample_ns.clear();
    if (auto status = time_runs(head, input, 1, sample_ns); !status.ok()) {
      return status.failure();
    }
    head_s += static_cast<double>(sample_ns.front()) / 1e9;
  }
  meter.stop();
  if (const std::string reason = meter.reason(); !reason.empty()) {
    return Power{std::nullopt, reason};
  }
  return Power{Drawn{meter.mean_mw(), meter.mean_mw() * head_s / runs, meter.samples()}, ""};
}

}  // namespace splitbench
