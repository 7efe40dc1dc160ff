// Which cores this program may run on.
#pragma once

#include <string>

#include "error.h"

namespace splitbench {

// Keeps this thread, and all that it starts from here on, to the cores of a hexadecimal mask (bit 0 is core 0). kUsage
// where the mask cannot be read or holds no core that may be used here.
Status restrict_cores(const std::string& mask);

// The mask of the cores that are allowed now; empty where the kernel does not tell.
std::string allowed_cores();

}  // namespace splitbench
