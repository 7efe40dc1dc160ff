#include "output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace splitbench {
namespace {

// The steps below give 0, or what errno would be.
int write_bytes(int descriptor, const void* data, std::size_t size) {
  const auto* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor, at, size);
    if (written < 0 && errno != EINTR) {
      return errno;
    }
    if (written > 0) {
      at += written;
      size -= static_cast<std::size_t>(written);
    }
  }
  return 0;
}

int write_content(int descriptor, const Document& document) {
  const std::string header = canonical_header(document);
  int error = write_bytes(descriptor, header.data(), header.size());
  for (const auto& [name, tensor] : document.tensors) {
    error = error == 0 ? write_bytes(descriptor, tensor.data, tensor.bytes()) : error;
  }
  // On disk before it has its name; and before anything is timed.
  return error == 0 && ::fsync(descriptor) != 0 ? errno : error;
}

int write_file(const std::string& path, const Document& document) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0) {
    return errno;
  }
  const int error = write_content(descriptor, document);
  return ::close(descriptor) != 0 && error == 0 ? errno : error;
}

}  // namespace

Status write_document(const std::string& path, const Document& document) {
  const auto unwritable = [&](const std::string& reason) {
    return Failure{Code::kOutputUnwritable, path + ": " + reason, "free some space, or write elsewhere"};
  };
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    return unwritable("is there already, and no regular file");  // moving a file onto a device would replace it
  }
  const std::string partial = path + "." + std::to_string(::getpid()) + ".part";
  ::unlink(partial.c_str());  // left by one that was killed and had our number
  int error = write_file(partial, document);
  if (error == 0 && std::rename(partial.c_str(), path.c_str()) != 0) {
    error = errno;
  }
  if (error == 0) {
    return Done{};
  }
  ::unlink(partial.c_str());
  return unwritable(std::strerror(error));
}

}  // namespace splitbench
