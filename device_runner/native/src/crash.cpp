#include "crash.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace splitbench {
namespace {

std::atomic<const char*> stage_doing{"starting"};
std::atomic<int> stage_code{static_cast<int>(Code::kExecutionFailed)};

void print(const char* text) {
  // Nothing can be done where this fails.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, std::strlen(text));
}

// Only calls that are allowed in a signal handler.
void report_and_exit(int signal) {
  const char number[] = {static_cast<char>('0' + signal / 10), static_cast<char>('0' + signal % 10), '\0'};
  print("head_runner: crashed while ");
  print(stage_doing.load());
  print(" (signal ");
  print(number);
  print("); check the head's sha256, then export it again\n");
  ::_exit(stage_code.load());
}

}  // namespace

void set_stage(const char* doing, Code code) {
  stage_doing.store(doing);
  stage_code.store(static_cast<int>(code));
}

void install_crash_handler() {
  static_assert(std::atomic<const char*>::is_always_lock_free && std::atomic<int>::is_always_lock_free);
  struct sigaction action {};
  action.sa_handler = report_and_exit;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    ::sigaction(signal, &action, nullptr);
  }
  // A reader that left and a limit of the file's size are errors of write() like any other.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  std::set_terminate([] { std::abort(); });
}

}  // namespace splitbench
