// Frames over TCP: one connection, timeouts on everything, no byte trusted.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "error.h"
#include "frame.h"
#include "link.h"

namespace splitbench {

// A frame that came in: the document's tensors are views into the payload. Moving keeps them valid.
struct Message {
  std::vector<std::uint8_t> payload;
  Document document;

  Message(std::vector<std::uint8_t> bytes, Document parsed) : payload(std::move(bytes)), document(std::move(parsed)) {}
  Message(Message&&) = default;
  Message& operator=(Message&&) = default;

  // Metadata under this key, empty where there is none.
  std::string text(const std::string& key) const;
};

class Connection {
 public:
  using Timeout = std::chrono::milliseconds;

  // Connects to "host:port" or "[v6 address]:port". Each later frame must be sent or arrive within `frame_timeout`.
  static Result<Connection> open(const std::string& address, Timeout connect_timeout, Timeout frame_timeout);
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&&) = delete;
  ~Connection();

  // Sends a frame, over a link of this shape where one is given: the round-trip time passes first, then each byte leaves
  // when that link would have delivered it. The timeout counts from there. Where the peer hung up with a `refused`, that
  // is the failure.
  Status send(const EncodedFrame& frame, const std::optional<LinkShape>& shape);
  // Sends a message whose encoding nobody times.
  Status send(const Document& document) { return send(encode_frame(document), std::nullopt); }

  // The next frame, of at most this many payload bytes: more is refused before anything is allocated for it.
  Result<Message> receive(std::uint64_t max_payload_bytes);

  // The next frame that is not `passing`, which must be of this kind: kReceiverRefused for `refused`, kFrameDamaged for any
  // other.
  Result<Message> expect(const std::string& kind, std::uint64_t max_payload_bytes, const std::string& passing = "");

 private:
  using Deadline = std::chrono::steady_clock::time_point;

  Connection(int socket, std::string address, Timeout frame_timeout)
      : socket_(socket), address_(std::move(address)), frame_timeout_(frame_timeout) {}

  class Unsent;

  Status send_up_to(std::uint64_t goal, Unsent& unsent, Deadline deadline);
  Status send_paced(Unsent& unsent, const LinkShape& shape);
  Status wait_for(short events, Deadline deadline) const;
  Status read_exactly(std::uint8_t* into, std::size_t size, Deadline deadline) const;
  Failure lost(const std::string& reason) const;
  Failure refused(const Message& message) const;

  int socket_;
  std::string address_;
  Timeout frame_timeout_;
};

}  // namespace splitbench
