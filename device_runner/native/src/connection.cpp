#include "connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

namespace splitbench {
namespace {

constexpr const char* kCheckReceiver = "check that the receiver runs and can be reached from here";
constexpr std::uint64_t kMaxRefusalBytes = 4096;

// What a shaped link sends at a time: small enough to be a steady flow, large enough that sleeping keeps up.
constexpr double kChunkSeconds = 0.001;
constexpr double kSmallestChunk = 1448;  // bytes: what one Ethernet frame carries
constexpr double kLargestChunk = 65536;

using Clock = std::chrono::steady_clock;

// Waits until the socket is ready: 0, or what errno would be.
int wait_ready(int socket, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd entry{socket, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::max<decltype(left)>(left, 0)));
    if (ready > 0) {
      return 0;
    }
    if (ready == 0) {
      return ETIMEDOUT;
    }
    if (errno != EINTR) {
      return errno;
    }
  }
}

// Connects a fresh non-blocking socket: 0, or what errno would be.
int connect_within(int socket, const addrinfo& target, std::chrono::milliseconds timeout) {
  if (::connect(socket, target.ai_addr, target.ai_addrlen) == 0) {
    return 0;
  }
  if (errno != EINPROGRESS) {
    return errno;
  }
  if (const int error = wait_ready(socket, POLLOUT, Clock::now() + timeout); error != 0) {
    return error;
  }
  int error = 0;
  socklen_t size = sizeof error;
  return ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

// The parts of a frame that have not been sent yet.
class Connection::Unsent {
 public:
  explicit Unsent(const EncodedFrame& frame) : total_(frame.bytes) {
    parts_.push_back({const_cast<char*>(frame.head.data()), frame.head.size()});
    for (const TensorView& body : frame.bodies) {
      parts_.push_back({const_cast<std::uint8_t*>(body.data), body.bytes()});
    }
  }

  std::uint64_t total() const { return total_; }
  std::uint64_t sent() const { return sent_; }

  // What is to go next: at most `limit` bytes, which is more than 0. Valid until the next call.
  msghdr message(std::uint64_t limit) {
    msghdr message{};
    message.msg_iov = parts_.data() + first_;
    const std::size_t most = std::min<std::size_t>(parts_.size() - first_, 64);
    while (message.msg_iovlen < most && message.msg_iov[message.msg_iovlen].iov_len <= limit) {
      limit -= message.msg_iov[message.msg_iovlen++].iov_len;
    }
    if (message.msg_iovlen == 0) {
      cut_ = {parts_[first_].iov_base, static_cast<std::size_t>(limit)};
      message.msg_iov = &cut_;
      message.msg_iovlen = 1;
    }
    return message;
  }

  void drop(std::size_t sent) {
    sent_ += sent;
    while (first_ < parts_.size() && sent >= parts_[first_].iov_len) {
      sent -= parts_[first_++].iov_len;
    }
    if (sent > 0) {
      parts_[first_].iov_base = static_cast<char*>(parts_[first_].iov_base) + sent;
      parts_[first_].iov_len -= sent;
    }
  }

 private:
  std::vector<iovec> parts_;
  iovec cut_{};
  std::size_t first_ = 0;
  std::uint64_t total_;
  std::uint64_t sent_ = 0;
};

std::string Message::text(const std::string& key) const {
  const auto found = document.metadata.find(key);
  return found == document.metadata.end() ? std::string() : found->second;
}

Result<Connection> Connection::open(const std::string& address, Timeout connect_timeout, Timeout frame_timeout) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    return Failure{Code::kUsage, "'" + address + "' is no address", "write it as host:port"};
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found); error != 0) {
    return Failure{Code::kReceiverUnreachable, address + ": " + ::gai_strerror(error), kCheckReceiver};
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> targets(found, &::freeaddrinfo);
  int error = EADDRNOTAVAIL;
  for (const addrinfo* target = found; target != nullptr; target = target->ai_next) {
    const int socket = ::socket(target->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, target->ai_protocol);
    error = socket < 0 ? errno : connect_within(socket, *target, connect_timeout);
    if (error == 0) {
      const int on = 1;
      ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return Connection(socket, address, frame_timeout);
    }
    if (socket >= 0) {
      ::close(socket);
    }
  }
  return Failure{Code::kReceiverUnreachable, address + ": " + std::strerror(error), kCheckReceiver};
}

Connection::Connection(Connection&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      address_(std::move(other.address_)),
      frame_timeout_(other.frame_timeout_) {}

Connection::~Connection() {
  if (socket_ >= 0) {
    ::close(socket_);
  }
}

Failure Connection::lost(const std::string& reason) const {
  return {Code::kReceiverUnreachable, address_ + ": " + reason, kCheckReceiver};
}

Failure Connection::refused(const Message& message) const {
  return {Code::kReceiverRefused, address_ + " refused: " + message.text("reason"), "see the receiver's own message"};
}

Status Connection::wait_for(short events, Deadline deadline) const {
  const int error = wait_ready(socket_, events, deadline);
  return error == 0 ? Status(Done{}) : Status(lost(std::strerror(error)));
}

Status Connection::send(const EncodedFrame& frame, const std::optional<LinkShape>& shape) {
  Unsent unsent(frame);
  return shape ? send_paced(unsent, *shape) : send_up_to(unsent.total(), unsent, Clock::now() + frame_timeout_);
}

// Every chunk has a time of its own, counted from the start: what one sleeps too long, the next does not.
Status Connection::send_paced(Unsent& unsent, const LinkShape& shape) {
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // nanoseconds that a sleep may be late; by default 50,000
  const double steady = std::clamp(shape.bytes_per_s * kChunkSeconds, kSmallestChunk, kLargestChunk);
  const auto chunk = static_cast<std::uint64_t>(steady);
  const auto first = Clock::now() + std::chrono::nanoseconds(shape.rtt_ns);
  while (unsent.sent() < unsent.total()) {
    const std::uint64_t goal = std::min(unsent.sent() + chunk, unsent.total());
    const std::chrono::duration<double> taken(static_cast<double>(goal) / shape.bytes_per_s);
    const auto due = first + std::chrono::duration_cast<Clock::duration>(taken);
    std::this_thread::sleep_until(due);
    if (auto status = send_up_to(goal, unsent, due + frame_timeout_); !status.ok()) {
      return status;
    }
  }
  return Done{};
}

Status Connection::send_up_to(std::uint64_t goal, Unsent& unsent, Deadline deadline) {
  while (unsent.sent() < goal) {
    const msghdr message = unsent.message(goal - unsent.sent());
    const ssize_t sent = ::sendmsg(socket_, &message, MSG_NOSIGNAL);
    if (sent >= 0) {
      unsent.drop(static_cast<std::size_t>(sent));
      continue;
    }
    const int error = errno;
    if (error == EINTR) {
      continue;
    }
    if (!would_block(error)) {
      // A receiver that refuses closes at once: its reason may lie unread while our own bytes bounce.
      const auto last = receive(kMaxRefusalBytes);
      return last.ok() && last->text("kind") == "refused" ? refused(*last) : lost(std::strerror(error));
    }
    if (auto ready = wait_for(POLLOUT, deadline); !ready.ok()) {
      return ready;
    }
  }
  return Done{};
}

Status Connection::read_exactly(std::uint8_t* into, std::size_t size, Deadline deadline) const {
  for (std::size_t filled = 0; filled < size;) {
    const ssize_t got = ::recv(socket_, into + filled, size - filled, 0);
    if (got > 0) {
      filled += static_cast<std::size_t>(got);
      continue;
    }
    if (got == 0) {
      return lost("the receiver closed the connection");
    }
    const int error = errno;
    if (error != EINTR && !would_block(error)) {
      return lost(std::strerror(error));
    }
    if (auto ready = wait_for(POLLIN, deadline); !ready.ok()) {
      return ready.failure();
    }
  }
  return Done{};
}

Result<Message> Connection::receive(std::uint64_t max_payload_bytes) {
  const Deadline deadline = Clock::now() + frame_timeout_;
  std::array<std::uint8_t, kPrefixBytes> bytes{};
  if (auto status = read_exactly(bytes.data(), bytes.size(), deadline); !status.ok()) {
    return status.failure();
  }
  const Prefix prefix = decode_prefix(bytes);
  if (prefix.payload_bytes > max_payload_bytes) {
    const std::string claim = "a frame claims " + std::to_string(prefix.payload_bytes) + " bytes";
    return Failure{Code::kFrameDamaged, claim + ", " + std::to_string(max_payload_bytes) + " are allowed",
                   "check that the address is the receiver's"};
  }
  std::vector<std::uint8_t> payload(static_cast<std::size_t>(prefix.payload_bytes));
  if (auto status = read_exactly(payload.data(), payload.size(), deadline); !status.ok()) {
    return status.failure();
  }
  auto document = decode_payload(payload.data(), payload.size(), prefix.crc);
  if (!document.ok()) {
    return document.failure();
  }
  return Message(std::move(payload), std::move(*document));
}

Result<Message> Connection::expect(const std::string& kind, std::uint64_t max_payload_bytes,
                                   const std::string& passing) {
  auto message = receive(max_payload_bytes);
  while (!passing.empty() && message.ok() && message->text("kind") == passing) {
    message = receive(max_payload_bytes);
  }
  if (!message.ok() || message->text("kind") == kind) {
    return message;
  }
  if (message->text("kind") == "refused") {
    return refused(*message);
  }
  return Failure{Code::kFrameDamaged, address_ + " sent '" + message->text("kind") + "' in place of '" + kind + "'",
                 "use one version on both sides"};
}

}  // namespace splitbench
