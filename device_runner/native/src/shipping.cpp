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

Status greet(Connection& connection, const Destination& destination, const std::string& token) {
  const Document hello{{{"kind", "hello"}, {"token", token}, {"cell", destination.cell}, {"round", destination.round}}, {}};
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

// Pictures become activations here; `values` is kept between pictures, so that no memory is asked for while time runs.
class Source {
 public:
  Source(Head* head, const TensorView& pictures)
      : head_(head), shape_(batch_of_one(pictures.shape)), values_(head == nullptr ? 0 : batch().elements()) {}

  Result<TensorView> activation(const std::uint8_t* picture) {
    if (head_ == nullptr) {
      return TensorView{Dtype::kU8, shape_, picture};
    }
    to_unit_range(picture, values_);
    if (auto status = head_->set_input(values_.data()); !status.ok()) {
      return status.failure();
    }
    if (auto status = head_->run(); !status.ok()) {
      return status.failure();
    }
    return head_->output();
  }

  std::size_t picture_bytes() const { return batch().bytes(); }
  bool has_head() const { return head_ != nullptr; }

 private:
  TensorView batch() const { return {Dtype::kU8, shape_, nullptr}; }

  Head* head_;
  Shape shape_;
  std::vector<float> values_;
};

Result<Shipment> ship_one(Connection& connection, Source& source, const std::uint8_t* picture, std::size_t index,
                          const std::optional<LinkShape>& shape) {
  const std::int64_t picture_in = now_ns();
  auto activation = source.activation(picture);
  const std::int64_t activation_there = source.has_head() ? now_ns() : picture_in;
  if (!activation.ok()) {
    return activation.failure();
  }
  Document document{{{"kind", "activation"}, {"picture", std::to_string(index)}}, {{"activation", std::move(*activation)}}};
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
  return Shipment{index,
                  activation_there - picture_in,
                  received_read - send_start,
                  answer_read - received_read,
                  answer_read - picture_in,
                  *wire_bytes};
}

}  // namespace

Result<std::vector<Shipment>> ship(Head* head, const TensorView& pictures, const Destination& destination,
                                   const std::string& token) {
  auto connection = Connection::open(destination.address, kConnectTimeout, kFrameTimeout);
  if (!connection.ok()) {
    return connection.failure();
  }
  if (auto status = greet(*connection, destination, token); !status.ok()) {
    return status.failure();
  }
  Source source(head, pictures);
  std::vector<Shipment> shipments;
  for (std::size_t i = 0; i < pictures.shape[0]; ++i) {
    auto shipment = ship_one(*connection, source, pictures.data + i * source.picture_bytes(), i, destination.shape);
    if (!shipment.ok()) {
      return shipment.failure();
    }
    shipments.push_back(*shipment);
  }
  return shipments;
}

}  // namespace splitbench
