#include "cargo.h"

#include <cstdio>

namespace splitbench {
namespace {

constexpr std::size_t kMaxTokenBytes = 1024;

Result<std::string> read_token() {
  char line[kMaxTokenBytes + 2];
  std::string token = std::fgets(line, sizeof line, stdin) == nullptr ? "" : line;
  token.erase(token.find_last_not_of("\r\n") + 1);
  if (token.empty() || token.size() > kMaxTokenBytes) {
    return Failure{Code::kUsage, "no token on standard input", "give the run's token as its first line"};
  }
  return token;
}

}  // namespace

Result<Cargo> read_cargo(const Destination& destination) {
  auto token = read_token();
  if (!token.ok()) {
    return token.failure();
  }
  auto file = SafetensorsFile::read(destination.pictures);
  if (!file.ok()) {
    return file.failure();
  }
  const auto pictures = file->tensor("pictures", Dtype::kU8, 4);
  if (!pictures.ok()) {
    return pictures.failure();
  }
  if (pictures->shape[1] != 3) {
    return Failure{Code::kInputMismatch, destination.pictures + ": pictures of " + shape_text(pictures->shape) + " are not RGB",
                   "write them as [N,3,H,W]"};
  }
  return Cargo{std::move(*file), *pictures, *token};
}

}  // namespace splitbench
