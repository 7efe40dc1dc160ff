// What can go wrong, as values: a function that can fail returns Result<T> or Status, nothing is thrown across a boundary.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace splitbench {

// Exit statuses of head_runner: RunnerCode of device_runner/errors.py holds the same list (a test compares them).
enum class Code : int {
  kOk = 0,
  kUsage = 64,
  kProgramMissing = 65,
  kProgramDamaged = 66,
  kOperatorMissing = 67,
  kInputMismatch = 68,
  kVerificationFailed = 69,
  kExecutionFailed = 70,
  kReceiverUnreachable = 71,
  kReceiverRefused = 72,
  kFrameDamaged = 73,
  kFileUnreadable = 74,
  kOutputUnwritable = 75,
};

struct Failure {
  Code code;
  std::string what;    // what happened, naming the file, name or number concerned
  std::string remedy;  // what to do next
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Failure failure) : state_(std::move(failure)) {}

  bool ok() const { return std::holds_alternative<T>(state_); }
  // The value: only where ok().
  T& operator*() { return *std::get_if<T>(&state_); }
  const T& operator*() const { return *std::get_if<T>(&state_); }
  T* operator->() { return std::get_if<T>(&state_); }
  const T* operator->() const { return std::get_if<T>(&state_); }
  // The failure: only where not ok().
  const Failure& failure() const { return *std::get_if<Failure>(&state_); }

 private:
  std::variant<T, Failure> state_;
};

struct Done {};
using Status = Result<Done>;

// The text with everything replaced that is no UTF-8 or a control character, whatever a file or a peer put into it.
std::string printable(std::string text);

// "head_runner: what; remedy" as one printable line.
std::string one_line(const Failure& failure);

}  // namespace splitbench
