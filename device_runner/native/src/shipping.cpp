#include "shipping.h"

#include "clock.h"
#include "connection.h"
#include "pictures.h"

namespace splitbench {
namespace {

constexpr Connection::Timeout kConnectTimeout = std::chrono::seconds(10);
constexpr Connection::Timeout kFrameTimeout = std::chrono::seconds(120);  // a tail may be slow on a busy workstation
constexpr std::uint64_t kMaxControlBytes = 4096;
constexpr std::uint64_t kMaxAnswerBytes = std::uint64_t{64} << 20;

Result<Connection> connect(const Destination& destination) {
  return Connection::open(destination.address, kConnectTimeout, kFrameTimeout);
}

Status greet(Connection& connection, const Cargo& cargo, const Destination& destination, const std::string& cell) {
  const Document hello{{{"kind", "hello"}, {"token", cargo.token}, {"cell", cell}, {"round", destination.round}}, {}};
  if (auto sent = connection.send(hello); !sent.ok()) {
    return sent.failure();
  }
  auto welcome = connection.expect("welcome", kMaxControlBytes);
  return welcome.ok() ? Status(Done{}) : Status(welcome.failure());
}

Status check_answer(const Message& answer) {
  const auto found = answer.document.tensors.find("answer");
  if (found == answer.document.tensors.end() || found->second.dtype != Dtype::kF32) {
    return Failure{Code::kFrameDamaged, "the answer holds no F32 tensor 'answer'", "use one version on both sides"};
  }
  return Done{};
}

// Pictures become activations here; `values_` is kept between pictures, so that no memory is asked for while time runs.
class Source {
 public:
  Source(Head* head, const TensorView& pictures)
      : head_(head),
        pictures_(pictures),
        shape_(batch_of_one(pictures.shape)),
        picture_bytes_(pictures.bytes() / pictures.shape[0]),
        values_(head == nullptr ? 0 : picture_bytes_) {}

  std::size_t pictures() const { return pictures_.shape[0]; }
  bool has_head() const { return head_ != nullptr; }

  Status run(std::size_t picture) {
    to_unit_range(pixels(picture), values_);
    auto status = head_->set_input(values_.data());
    return status.ok() ? head_->run() : status;
  }

  Result<TensorView> activation(std::size_t picture) {
    if (head_ == nullptr) {
      return TensorView{Dtype::kU8, shape_, pixels(picture)};
    }
    auto status = run(picture);
    return status.ok() ? head_->output(0) : status.failure();
  }

 private:
  const std::uint8_t* pixels(std::size_t picture) const { return pictures_.data + picture * picture_bytes_; }

  Head* head_;
  const TensorView& pictures_;
  Shape shape_;
  std::size_t picture_bytes_;
  std::vector<float> values_;
};

// One activation's exchange: when its frame began to be built, when `received` and `answer` had been read.
struct Exchange {
  std::int64_t send_start;
  std::int64_t received_read;
  std::int64_t answer_read;
  std::uint64_t wire_bytes;
};

Result<Exchange> exchange(Connection& connection, TensorView activation, std::size_t picture,
                          const std::optional<LinkShape>& shape) {
  const Document document{{{"kind", "activation"}, {"picture", std::to_string(picture)}},
                          {{"activation", std::move(activation)}}};
  const std::int64_t send_start = now_ns();
  auto wire_bytes = connection.send(document, shape);
  if (!wire_bytes.ok()) {
    return wire_bytes.failure();
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
  if (auto status = check_answer(*answer); !status.ok()) {
    return status.failure();
  }
  if (auto stored = connection.expect("stored", kMaxControlBytes); !stored.ok()) {
    return stored.failure();
  }
  return Exchange{send_start, received_read, answer_read, *wire_bytes};
}

Result<Shipment> ship_one(Connection& connection, Source& source, std::size_t picture,
                          const std::optional<LinkShape>& shape) {
  const std::int64_t picture_in = now_ns();
  auto activation = source.activation(picture);
  const std::int64_t activation_there = source.has_head() ? now_ns() : picture_in;
  if (!activation.ok()) {
    return activation.failure();
  }
  const auto done = exchange(connection, std::move(*activation), picture, shape);
  if (!done.ok()) {
    return done.failure();
  }
  return Shipment{picture,
                  activation_there - picture_in,
                  done->received_read - done->send_start,
                  done->answer_read - done->received_read,
                  done->answer_read - picture_in,
                  done->wire_bytes};
}

}  // namespace

Result<std::vector<Shipment>> ship(Head* head, const Cargo& cargo, const Destination& destination) {
  auto connection = connect(destination);
  if (!connection.ok()) {
    return connection.failure();
  }
  if (auto status = greet(*connection, cargo, destination, destination.cells.front()); !status.ok()) {
    return status.failure();
  }
  Source source(head, cargo.pictures);
  std::vector<Shipment> shipments;
  for (std::size_t i = 0; i < source.pictures(); ++i) {
    auto shipment = ship_one(*connection, source, i, destination.shape);
    if (!shipment.ok()) {
      return shipment.failure();
    }
    shipments.push_back(*shipment);
  }
  return shipments;
}

Result<std::vector<std::vector<SurveyShipment>>> ship_survey(Head& program, const Cargo& cargo,
                                                             const Destination& destination) {
  auto connection = connect(destination);
  if (!connection.ok()) {
    return connection.failure();
  }
  Source source(&program, cargo.pictures);
  std::vector<std::vector<SurveyShipment>> shipments(destination.cells.size());
  for (std::size_t picture = 0; picture < source.pictures(); ++picture) {
    if (auto status = source.run(picture); !status.ok()) {
      return status.failure();
    }
    for (std::size_t i = 0; i < shipments.size(); ++i) {
      auto activation = program.output(i);
      if (!activation.ok()) {
        return activation.failure();
      }
      if (auto status = greet(*connection, cargo, destination, destination.cells[i]); !status.ok()) {
        return status.failure();
      }
      const auto done = exchange(*connection, std::move(*activation), picture, destination.shape);
      if (!done.ok()) {
        return done.failure();
      }
      shipments[i].push_back({picture, done->received_read - done->send_start, done->answer_read - done->received_read,
                              done->wire_bytes});
    }
  }
  return shipments;
}

}  // namespace splitbench
