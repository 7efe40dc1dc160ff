// The part of safetensors that frames and reference files need: F32, I8 and U8 tensors, no empty ones, text metadata.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "error.h"

namespace splitbench {

constexpr std::size_t kMaxHeaderBytes = 65536;                     // of the JSON header; ours take a few hundred bytes
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{4} << 30;  // a head, its reference, a set of pictures: all far below

enum class Dtype { kF32, kI8, kU8 };
const char* dtype_name(Dtype dtype);
std::size_t dtype_bytes(Dtype dtype);

using Shape = std::vector<std::uint64_t>;
std::string shape_text(const Shape& shape);       // "[1,3,224,224]", as in JSON
std::string json_text(const std::string& text);  // quoted and escaped; the text must be UTF-8

// A tensor in memory that somebody else owns: row-major and contiguous, at any alignment.
struct TensorView {
  Dtype dtype;
  Shape shape;  // no dimension is 0
  const std::uint8_t* data;

  std::size_t elements() const;
  std::size_t bytes() const { return elements() * dtype_bytes(dtype); }
};

// std::map sorts by bytes, which for UTF-8 is by code point: the order that Python's sorted() gives.
using Metadata = std::map<std::string, std::string>;
using Tensors = std::map<std::string, TensorView>;

struct Document {
  Metadata metadata;
  Tensors tensors;
};

// Reads a header and checks it against what follows: known types, no tensor twice, no holes, no overlaps, nothing left
// over. The tensors are views into `data`. The message of a failure says what is wrong; its code is kFrameDamaged.
Result<Document> parse_safetensors(const std::uint8_t* data, std::size_t size);

// The canonical header: u64 length, compact JSON (metadata first, then tensors, each sorted), spaces up to a multiple of 8.
// The tensors' bytes follow it in the same order.
std::string canonical_header(const Document& document);

// A file held in memory and the tensors in it.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> read(const std::string& path);
  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  // A tensor of this name, type and number of dimensions; kInputMismatch where it is another, or none.
  Result<TensorView> tensor(const std::string& name, Dtype dtype, std::size_t dimensions) const;
  // A tensor of this name; kInputMismatch where there is none.
  Result<TensorView> tensor(const std::string& name) const;

 private:
  SafetensorsFile(std::string path, std::vector<std::uint8_t> content, Document document)
      : path_(std::move(path)), content_(std::move(content)), document_(std::move(document)) {}

  std::string path_;
  std::vector<std::uint8_t> content_;  // the views in document_ point into it; moving keeps them valid
  Document document_;
};

}  // namespace splitbench
