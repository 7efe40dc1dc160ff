// The last resort: a crash inside a library still ends in one line and an exit status.
#pragma once

#include "error.h"

namespace splitbench {

// From here on SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT print one line and exit; SIGPIPE and SIGXFSZ do
// nothing.
void install_crash_handler();

// What a crash would mean from here on: `doing` must be a string literal.
void set_stage(const char* doing, Code code);

}  // namespace splitbench
