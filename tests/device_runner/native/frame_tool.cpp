// The native side of the wire format as a program, for tests: built with sanitizers, so that a bad access ends it.
//   frame_tool recode FILE          a frame in, the frame that encodes its content out on standard output
//   frame_tool tensors FILE         the tensors of a safetensors file, one a line
//   frame_tool serve                for each `u32 length, bytes` on standard input: `u8 code, u32 length, bytes` out
//   frame_tool answer FILE MOST_NS  the decode time that the answer in a frame tells
//   frame_tool receive ADDRESS MAX TIMEOUT_MS  one frame from a listening peer
//   frame_tool send ADDRESS FILE [RATE RTT_NS]  the tensors of a file as one frame, over a shaped link; the bytes sent
//   frame_tool write FILE OUT       a safetensors file, written again in canonical form
//   frame_tool checksum FILE        crc32c by the CPU's instruction, and by table
// Errors are one line and the code of error.h.
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "answer.h"
#include "connection.h"
#include "crc32c.h"
#include "frame.h"
#include "output.h"

using namespace splitbench;

namespace {

std::vector<std::uint8_t> read_all(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The payload of a whole frame, in a block of its own, so that the sanitizer sees a step over either end.
Result<Message> parse(const std::vector<std::uint8_t>& frame) {
  std::array<std::uint8_t, kPrefixBytes> prefix_bytes{};
  if (frame.size() < prefix_bytes.size()) {
    return Failure{Code::kFrameDamaged, "shorter than a prefix", "send it again"};
  }
  std::memcpy(prefix_bytes.data(), frame.data(), prefix_bytes.size());
  const Prefix prefix = decode_prefix(prefix_bytes);
  if (prefix.payload_bytes != frame.size() - kPrefixBytes) {
    return Failure{Code::kFrameDamaged, "another length than the prefix says", "send it again"};
  }
  std::vector<std::uint8_t> payload(frame.begin() + kPrefixBytes, frame.end());
  auto document = decode_payload(payload.data(), payload.size(), prefix.crc);
  return document.ok() ? Result<Message>(Message(std::move(payload), std::move(*document)))
                       : Result<Message>(document.failure());
}

Result<std::string> recode(const std::vector<std::uint8_t>& frame) {
  const auto message = parse(frame);
  if (!message.ok()) {
    return message.failure();
  }
  const EncodedFrame encoded = encode_frame(message->document);
  std::string bytes = encoded.head;
  for (const TensorView& body : encoded.bodies) {
    bytes.append(reinterpret_cast<const char*>(body.data), body.bytes());
  }
  return bytes;
}

Result<std::string> answered(const char* path, const char* most_ns) {
  const auto message = parse(read_all(path));
  if (!message.ok()) {
    return message.failure();
  }
  const auto told = decode_time(message->document, std::atoll(most_ns));
  return told.ok() ? Result<std::string>(std::to_string(*told)) : Result<std::string>(told.failure());
}

Result<std::string> tensors(const char* path) {
  const auto file = SafetensorsFile::read(path);
  if (!file.ok()) {
    return file.failure();
  }
  std::string lines;
  for (const char* name : {"picture", "activation", "pictures"}) {
    if (const auto tensor = file->tensor(name); tensor.ok()) {
      lines += std::string(name) + " " + dtype_name(tensor->dtype) + " " + shape_text(tensor->shape) + "\n";
    }
  }
  return lines;
}

// Only the tensors that `tensors` knows, and no metadata.
Document content(const SafetensorsFile& file) {
  Document document;
  for (const char* name : {"picture", "activation", "pictures"}) {
    if (const auto tensor = file.tensor(name); tensor.ok()) {
      document.tensors.emplace(name, *tensor);
    }
  }
  return document;
}

Result<std::string> send(const char* address, const char* path, const std::optional<LinkShape>& shape) {
  const auto file = SafetensorsFile::read(path);
  if (!file.ok()) {
    return file.failure();
  }
  auto connection = Connection::open(address, std::chrono::seconds(10), std::chrono::seconds(30));
  if (!connection.ok()) {
    return connection.failure();
  }
  const Document document = content(*file);
  const EncodedFrame frame = encode_frame(document);
  const auto sent = connection->send(frame, shape);
  return sent.ok() ? Result<std::string>(std::to_string(frame.bytes)) : Result<std::string>(sent.failure());
}

Result<std::string> write(const char* path, const char* out) {
  const auto file = SafetensorsFile::read(path);
  if (!file.ok()) {
    return file.failure();
  }
  const auto status = write_document(out, content(*file));
  return status.ok() ? Result<std::string>("") : Result<std::string>(status.failure());
}

Result<std::string> receive(const char* address, const char* max_payload_bytes, const char* timeout_ms) {
  auto connection = Connection::open(address, std::chrono::seconds(10), std::chrono::milliseconds(std::atoi(timeout_ms)));
  if (!connection.ok()) {
    return connection.failure();
  }
  const auto message = connection->expect("welcome", std::strtoull(max_payload_bytes, nullptr, 10));
  return message.ok() ? Result<std::string>(message->text("kind")) : Result<std::string>(message.failure());
}

Result<std::string> checksum(const char* path) {
  const auto content = read_all(path);
  return std::to_string(crc32c_extend(0, content.data(), content.size())) + " " +
         std::to_string(crc32c_extend_by_table(0, content.data(), content.size())) + "\n";
}

int serve() {
  for (std::uint32_t size = 0; std::fread(&size, sizeof size, 1, stdin) == 1;) {
    std::vector<std::uint8_t> frame(size);
    if (std::fread(frame.data(), 1, size, stdin) != size) {
      return 1;
    }
    const auto result = recode(frame);
    const auto code = static_cast<std::uint8_t>(result.ok() ? Code::kOk : result.failure().code);
    const std::string text = result.ok() ? *result : one_line(result.failure());
    const auto length = static_cast<std::uint32_t>(text.size());
    std::fwrite(&code, sizeof code, 1, stdout);
    std::fwrite(&length, sizeof length, 1, stdout);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  return 0;
}

Result<std::string> answer(const std::string& command, int count, char** arguments) {
  if (command == "recode" && count == 3) {
    return recode(read_all(arguments[2]));
  }
  if (command == "tensors" && count == 3) {
    return tensors(arguments[2]);
  }
  if (command == "answer" && count == 4) {
    return answered(arguments[2], arguments[3]);
  }
  if (command == "checksum" && count == 3) {
    return checksum(arguments[2]);
  }
  if (command == "send" && (count == 4 || count == 6)) {
    std::optional<LinkShape> shape;
    if (count == 6) {
      shape = LinkShape{std::atof(arguments[4]), std::atoll(arguments[5])};
    }
    return send(arguments[2], arguments[3], shape);
  }
  if (command == "write" && count == 4) {
    return write(arguments[2], arguments[3]);
  }
  if (command == "receive" && count == 5) {
    return receive(arguments[2], arguments[3], arguments[4]);
  }
  return Failure{Code::kUsage, "unknown command", "see the top of frame_tool.cpp"};
}

}  // namespace

int main(int count, char** arguments) {
  const std::string command = count > 1 ? arguments[1] : "";
  if (command == "serve") {
    return serve();
  }
  const auto result = answer(command, count, arguments);
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", one_line(result.failure()).c_str());
    return static_cast<int>(result.failure().code);
  }
  std::fwrite(result->data(), 1, result->size(), stdout);
  return 0;
}
