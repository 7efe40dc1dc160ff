#include "shipping.h"

#include <algorithm>

#include "answer.h"
#include "clock.h"
#include "connection.h"
#include "frame.h"
#include "pictures.h"

namespace splitbench {
namespace {

constexpr Connection::Timeout kConnectTimeout = std::chrono::seconds(10);
constexpr Connection::Timeout kFrameTimeout = std::chrono::seconds(120);  // a tail may be slow on a busy workstation
constexpr std::uint64_t kMaxControlBytes = 4096;
constexpr std::uint64_t kMaxAnswerBytes = std::uint64_t{64} << 20;

Status greet(Connection& connection, const Cargo& cargo, const Destination& destination, const std::string& cell) {
  const Document hello{{{"kind", "hello"}, {"token", cargo.token}, {"cell", cell}, {"round", destination.round}}, {}};
  if (auto sent = connection.send(hello); !sent.ok()) {
    return sent.failure();
  }
  // Others ship before: each `wait` says that the receiver is still there. No clock runs yet.
  auto welcome = connection.expect("welcome", kMaxControlBytes, "wait");
  return welcome.ok() ? Status(Done{}) : Status(welcome.failure());
}

// Pictures become activations here; `values_` is kept between pictures, so that no memory is asked for while time runs.
class Source {
 public:
  Source(Program* program, const TensorView& pictures)
      : program_(program),
        pictures_(pictures),
        shape_(batch_of_one(pictures.shape)),
        picture_bytes_(pictures.bytes() / pictures.shape[0]),
        values_(program == nullptr ? 0 : picture_bytes_) {}

  std::size_t pictures() const { return pictures_.shape[0]; }
  bool has_program() const { return program_ != nullptr; }

  // A picture's outputs are asked for in their order: the program runs for the first.
  Result<TensorView> activation(std::size_t picture, std::size_t output) {
    if (program_ == nullptr) {
      return TensorView{Dtype::kU8, shape_, pixels(picture)};
    }
    auto status = output == 0 ? run(picture) : Status(Done{});
    return status.ok() ? program_->output(output) : status.failure();
  }

 private:
  Status run(std::size_t picture) {
    to_unit_range(pixels(picture), values_);
    auto status = program_->set_input(values_.data());
    return status.ok() ? program_->run() : status;
  }

  const std::uint8_t* pixels(std::size_t picture) const { return pictures_.data + picture * picture_bytes_; }

  Program* program_;
  const TensorView& pictures_;
  Shape shape_;
  std::size_t picture_bytes_;
  std::vector<float> values_;
};

// One activation's exchange: when its frame had been built, when `received` and `answer` had been read.
struct Exchange {
  std::int64_t encoded;
  std::int64_t received_read;
  std::int64_t answer_read;
  std::int64_t decode_ns;
  std::uint64_t wire_bytes;
};

Result<Exchange> exchange(Connection& connection, TensorView activation, std::size_t picture,
                          const std::optional<LinkShape>& shape) {
  const EncodedFrame frame = encode_frame({{{"kind", "activation"}, {"picture", std::to_string(picture)}},
                                           {{"activation", std::move(activation)}}});
  const std::int64_t encoded = now_ns();
  if (auto sent = connection.send(frame, shape); !sent.ok()) {
    return sent.failure();
  }
  if (auto received = connection.expect("received", kMaxControlBytes); !received.ok()) {
    return received.failure();
  }
  const std::int64_t received_read = now_ns();
  auto answer = connection.expect("answer", kMaxAnswerBytes);
  const std::int64_t answer_read = now_ns();
  if (!answer.ok()) {
    return answer.failure();
  }
  const auto told_ns = decode_time(answer->document, answer_read - encoded);
  if (!told_ns.ok()) {
    return told_ns.failure();
  }
  if (auto stored = connection.expect("stored", kMaxControlBytes); !stored.ok()) {
    return stored.failure();
  }
  // A busy device reads `received` late: what the receiver had decoded by then lies within the transfer.
  const std::int64_t decode_ns = std::min(*told_ns, answer_read - received_read);
  return Exchange{encoded, received_read, answer_read, decode_ns, frame.bytes};
}

// Each part ends where the next begins, so that none is left out.
Result<Shipment> ship_one(Connection& connection, Source& source, std::size_t picture, std::size_t output,
                          const Destination& destination) {
  const std::int64_t picture_in = now_ns();
  auto activation = source.activation(picture, output);
  const std::int64_t activation_there = source.has_program() ? now_ns() : picture_in;
  if (!activation.ok()) {
    return activation.failure();
  }
  const auto done = exchange(connection, std::move(*activation), picture, destination.shape);
  if (!done.ok()) {
    return done.failure();
  }
  Shipment shipment{};
  shipment.picture = picture;
  shipment.encode_ns = done->encoded - activation_there;
  shipment.transfer_ns = done->received_read - done->encoded;
  shipment.decode_ns = done->decode_ns;
  shipment.tail_ns = done->answer_read - done->received_read - done->decode_ns;
  shipment.wire_bytes = done->wire_bytes;
  if (destination.cells.size() == 1) {
    shipment.head_ns = activation_there - picture_in;
    shipment.end_to_end_ns = done->answer_read - picture_in;
  }
  return shipment;
}

}  // namespace

Result<std::vector<std::vector<Shipment>>> ship(Program* program, const Cargo& cargo, const Destination& destination) {
  auto connection = Connection::open(destination.address, kConnectTimeout, kFrameTimeout);
  if (!connection.ok()) {
    return connection.failure();
  }
  Source source(program, cargo.pictures);
  std::vector<std::vector<Shipment>> shipments(destination.cells.size());
  std::optional<std::string> greeted;
  for (std::size_t picture = 0; picture < source.pictures(); ++picture) {
    for (std::size_t output = 0; output < shipments.size(); ++output) {
      const std::string& cell = destination.cells[output];
      if (greeted != cell) {
        if (auto status = greet(*connection, cargo, destination, cell); !status.ok()) {
          return status.failure();
        }
        greeted = cell;
      }
      auto shipment = ship_one(*connection, source, picture, output, destination);
      if (!shipment.ok()) {
        return shipment.failure();
      }
      shipments[output].push_back(*shipment);
    }
  }
  return shipments;
}

}  // namespace splitbench
