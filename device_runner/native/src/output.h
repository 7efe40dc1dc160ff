// Files that are whole or not there.
#pragma once

#include <string>

#include "safetensors.h"

namespace splitbench {

// Writes a document as the one canonical safetensors file that holds it: beside `path`, then moved there.
// kOutputUnwritable where that fails; what was at `path` is then still there, and nothing else.
Status write_document(const std::string& path, const Document& document);

}  // namespace splitbench
