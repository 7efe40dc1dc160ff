#include "safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>

#include "utf8.h"

namespace splitbench {
namespace {

struct DtypeRow {
  Dtype dtype;
  const char* name;
  std::size_t bytes;
};

constexpr DtypeRow kDtypes[] = {{Dtype::kF32, "F32", 4}, {Dtype::kI8, "I8", 1}, {Dtype::kU8, "U8", 1}};

const DtypeRow& row_of(Dtype dtype) {
  return *std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const DtypeRow& row) { return row.dtype == dtype; });
}

Failure damaged(const std::string& what) { return {Code::kFrameDamaged, what, "send or write it again"}; }

void append_utf8(std::string& text, std::uint32_t code_point) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | ((code_point >> shift) & 0x3f)); };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xc0 | (code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xe0 | (code_point >> 12));
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xf0 | (code_point >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

// The JSON that a safetensors header may hold; no recursion, so that no header can exhaust the stack.
class HeaderReader {
 public:
  HeaderReader(const char* text, std::size_t size) : begin_(text), at_(text), end_(text + size) {}

  bool take(char expected) {
    skip_space();
    if (at_ == end_ || *at_ != expected) {
      return false;
    }
    ++at_;
    return true;
  }

  bool at_end() {
    skip_space();
    return at_ == end_;
  }

  std::size_t position() const { return static_cast<std::size_t>(at_ - begin_); }

  std::optional<std::string> text() {
    if (!take('"')) {
      return std::nullopt;
    }
    std::string value;
    while (at_ != end_ && *at_ != '"') {
      if (!(*at_ == '\\' ? escape(value) : plain(value))) {
        return std::nullopt;
      }
    }
    if (at_ == end_) {
      return std::nullopt;
    }
    ++at_;
    return value;
  }

  std::optional<std::uint64_t> number() {
    skip_space();
    const char* first = at_;
    std::uint64_t value = 0;
    for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
      if (__builtin_mul_overflow(value, 10u, &value) ||
          __builtin_add_overflow(value, static_cast<unsigned>(*at_ - '0'), &value)) {
        return std::nullopt;
      }
    }
    const bool leading_zero = at_ - first > 1 && *first == '0';
    return at_ == first || leading_zero ? std::nullopt : std::optional(value);
  }

  std::optional<std::vector<std::uint64_t>> numbers() {
    std::vector<std::uint64_t> values;
    if (!take('[')) {
      return std::nullopt;
    }
    if (take(']')) {
      return values;
    }
    do {
      const auto value = number();
      if (!value) {
        return std::nullopt;
      }
      values.push_back(*value);
    } while (take(','));
    return take(']') ? std::optional(values) : std::nullopt;
  }

  // An object, whose members `member` reads: it is called with each key, in front of the value.
  template <typename Member>
  bool object(Member member) {
    if (!take('{')) {
      return false;
    }
    if (take('}')) {
      return true;
    }
    do {
      const auto key = text();
      if (!key || !take(':') || !member(*key)) {
        return false;
      }
    } while (take(','));
    return take('}');
  }

 private:
  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) {
      ++at_;
    }
  }

  bool plain(std::string& value) {
    const std::size_t length = utf8_sequence_bytes(at_, end_);
    if (length == 0 || static_cast<unsigned char>(*at_) < 0x20) {
      return false;
    }
    value.append(at_, length);
    at_ += length;
    return true;
  }

  bool escape(std::string& value) {
    constexpr const char* kEscapes = "\"\\/bfnrt";
    constexpr const char* kMeanings = "\"\\/\b\f\n\r\t";
    ++at_;
    if (at_ == end_) {
      return false;
    }
    if (*at_ == 'u') {
      ++at_;
      return code_point(value);
    }
    const char* found = *at_ == '\0' ? nullptr : std::strchr(kEscapes, *at_);
    if (found == nullptr) {
      return false;
    }
    value += kMeanings[found - kEscapes];
    ++at_;
    return true;
  }

  bool code_point(std::string& value) {
    const auto first = four_hex_digits();
    if (!first || (*first >= 0xdc00 && *first <= 0xdfff)) {
      return false;
    }
    if (*first < 0xd800 || *first > 0xdbff) {
      append_utf8(value, *first);
      return true;
    }
    if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') {
      return false;
    }
    at_ += 2;
    const auto second = four_hex_digits();
    if (!second || *second < 0xdc00 || *second > 0xdfff) {
      return false;
    }
    append_utf8(value, 0x10000 + ((*first - 0xd800) << 10) + (*second - 0xdc00));
    return true;
  }

  std::optional<std::uint32_t> four_hex_digits() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      if (at_ == end_) {
        return std::nullopt;
      }
      const char digit = *at_;
      if (digit >= '0' && digit <= '9') {
        value = value * 16 + static_cast<std::uint32_t>(digit - '0');
      } else if ((digit >= 'a' && digit <= 'f') || (digit >= 'A' && digit <= 'F')) {
        value = value * 16 + static_cast<std::uint32_t>((digit | 0x20) - 'a' + 10);
      } else {
        return std::nullopt;
      }
    }
    return value;
  }

  const char* begin_;
  const char* at_;
  const char* end_;
};

// A tensor as its header describes it.
struct Entry {
  std::optional<Dtype> dtype;
  std::optional<Shape> shape;
  std::optional<std::vector<std::uint64_t>> offsets;
};

bool read_entry(HeaderReader& reader, Entry& entry) {
  const auto member = [&](const std::string& key) {
    if (key == "dtype" && !entry.dtype) {
      const auto name = reader.text();
      const auto* row = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                     [&](const DtypeRow& known) { return name && *name == known.name; });
      if (row != std::end(kDtypes)) {
        entry.dtype = row->dtype;
      }
      return entry.dtype.has_value();
    }
    if (key == "shape" && !entry.shape) {
      entry.shape = reader.numbers();
      return entry.shape.has_value();
    }
    if (key == "data_offsets" && !entry.offsets) {
      entry.offsets = reader.numbers();
      return entry.offsets && entry.offsets->size() == 2;
    }
    return false;
  };
  return reader.object(member) && entry.dtype && entry.shape && entry.offsets;
}

bool read_metadata(HeaderReader& reader, Metadata& metadata) {
  return reader.object([&](const std::string& key) {
    auto value = reader.text();
    return value && metadata.emplace(key, std::move(*value)).second;
  });
}

bool read_header(HeaderReader& reader, Metadata& metadata, std::map<std::string, Entry>& entries) {
  bool metadata_seen = false;
  const auto member = [&](const std::string& key) {
    if (key == "__metadata__") {
      const bool first = !metadata_seen;
      metadata_seen = true;
      return first && read_metadata(reader, metadata);
    }
    const auto [place, added] = entries.emplace(key, Entry{});
    return added && read_entry(reader, place->second);
  };
  return reader.object(member) && reader.at_end();
}

// The bytes that a tensor of this type and shape takes, or nothing where they are 0 or more than `available`.
std::optional<std::uint64_t> tensor_bytes(Dtype dtype, const Shape& shape, std::uint64_t available) {
  std::uint64_t bytes = dtype_bytes(dtype);
  for (const std::uint64_t dimension : shape) {
    if (dimension == 0 || __builtin_mul_overflow(bytes, dimension, &bytes)) {
      return std::nullopt;
    }
  }
  return bytes <= available ? std::optional(bytes) : std::nullopt;
}

Result<Tensors> place_tensors(const std::map<std::string, Entry>& entries, const std::uint8_t* data, std::uint64_t size) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  Tensors tensors;
  for (const auto& [name, entry] : entries) {
    const std::uint64_t begin = (*entry.offsets)[0];
    const std::uint64_t end = (*entry.offsets)[1];
    const auto bytes = tensor_bytes(*entry.dtype, *entry.shape, size);
    if (!bytes || begin > end || end > size || end - begin != *bytes) {
      return damaged("tensor '" + name + "' does not fit its type, shape and place");
    }
    ranges.emplace_back(begin, end);
    tensors.emplace(name, TensorView{*entry.dtype, *entry.shape, data + begin});
  }
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t reached = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != reached) {
      return damaged("tensors overlap or leave a hole at byte " + std::to_string(reached));
    }
    reached = end;
  }
  if (reached != size) {
    return damaged(std::to_string(size - reached) + " bytes belong to no tensor");
  }
  return tensors;
}

// Reads a whole regular file of at most kMaxFileBytes; sets errno and gives nothing where that fails.
std::optional<std::vector<std::uint8_t>> read_descriptor(int descriptor) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0) {
    return std::nullopt;
  }
  if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) > kMaxFileBytes) {
    errno = S_ISREG(status.st_mode) ? EFBIG : EINVAL;
    return std::nullopt;
  }
  std::vector<std::uint8_t> content(static_cast<std::size_t>(status.st_size));
  for (std::size_t filled = 0; filled < content.size();) {
    const ssize_t got = ::read(descriptor, content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      errno = got == 0 ? EIO : errno;
      return std::nullopt;
    }
    filled += static_cast<std::size_t>(got);
  }
  return content;
}

}  // namespace

const char* dtype_name(Dtype dtype) { return row_of(dtype).name; }

std::size_t dtype_bytes(Dtype dtype) { return row_of(dtype).bytes; }

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (const std::uint64_t dimension : shape) {
    text += (text.size() > 1 ? "," : "") + std::to_string(dimension);
  }
  return text + "]";
}

std::string json_text(const std::string& text) {
  constexpr const char* kHex = "0123456789abcdef";
  constexpr const char* kMeanings = "\"\\\b\f\n\r\t";
  constexpr const char* kEscapes = "\"\\bfnrt";
  std::string json = "\"";
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    const char* found = byte == 0 ? nullptr : std::strchr(kMeanings, character);
    if (found != nullptr) {
      json += '\\';
      json += kEscapes[found - kMeanings];
    } else if (byte < 0x20) {
      json += "\\u00";
      json += kHex[byte >> 4];
      json += kHex[byte & 0xf];
    } else {
      json += character;
    }
  }
  return json + '"';
}

std::size_t TensorView::elements() const {
  std::size_t product = 1;
  for (const std::uint64_t dimension : shape) {
    product *= static_cast<std::size_t>(dimension);
  }
  return product;
}

Result<Document> parse_safetensors(const std::uint8_t* data, std::size_t size) {
  std::uint64_t header_bytes = 0;
  if (size < sizeof header_bytes) {
    return damaged("too short for a header");
  }
  std::memcpy(&header_bytes, data, sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > size - sizeof header_bytes) {
    return damaged("claims a header of " + std::to_string(header_bytes) + " bytes");
  }
  Document document;
  std::map<std::string, Entry> entries;
  const std::size_t data_begin = sizeof header_bytes + static_cast<std::size_t>(header_bytes);
  HeaderReader reader(reinterpret_cast<const char*>(data) + sizeof header_bytes, static_cast<std::size_t>(header_bytes));
  if (!read_header(reader, document.metadata, entries)) {
    return damaged("its header is wrong at byte " + std::to_string(reader.position()));
  }
  auto tensors = place_tensors(entries, data + data_begin, size - data_begin);
  if (!tensors.ok()) {
    return tensors.failure();
  }
  document.tensors = std::move(*tensors);
  return document;
}

std::string canonical_header(const Document& document) {
  std::string json = "{\"__metadata__\":{";
  const char* comma = "";
  for (const auto& [key, value] : document.metadata) {
    json += comma;
    json += json_text(key);
    json += ':';
    json += json_text(value);
    comma = ",";
  }
  json += '}';
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : document.tensors) {
    json += ',';
    json += json_text(name);
    json += std::string(":{\"dtype\":\"") + dtype_name(tensor.dtype) + "\",\"shape\":" + shape_text(tensor.shape);
    json += ",\"data_offsets\":" + shape_text({offset, offset + tensor.bytes()}) + "}";
    offset += tensor.bytes();
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = json.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + json;
}

Result<SafetensorsFile> SafetensorsFile::read(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  auto content = descriptor < 0 ? std::nullopt : read_descriptor(descriptor);
  const std::string reason = std::strerror(errno);
  if (descriptor >= 0) {
    ::close(descriptor);
  }
  if (!content) {
    return Failure{Code::kFileUnreadable, path + ": " + reason, "push the file again"};
  }
  auto document = parse_safetensors(content->data(), content->size());
  if (!document.ok()) {
    return Failure{Code::kFileUnreadable, path + ": " + document.failure().what, "push the file again"};
  }
  return SafetensorsFile(path, std::move(*content), std::move(*document));
}

Result<TensorView> SafetensorsFile::tensor(const std::string& name) const {
  const auto found = document_.tensors.find(name);
  if (found == document_.tensors.end()) {
    return Failure{Code::kInputMismatch, path_ + ": no tensor '" + name + "'", "write the file again"};
  }
  return found->second;
}

Result<TensorView> SafetensorsFile::tensor(const std::string& name, Dtype dtype, std::size_t dimensions) const {
  auto found = tensor(name);
  if (found.ok() && (found->dtype != dtype || found->shape.size() != dimensions)) {
    const std::string is = std::string(dtype_name(found->dtype)) + " " + shape_text(found->shape);
    const std::string should = std::string(dtype_name(dtype)) + " of " + std::to_string(dimensions) + " dimensions";
    return Failure{Code::kInputMismatch, path_ + ": '" + name + "' is " + is + ", not " + should, "write the file again"};
  }
  return found;
}

}  // namespace splitbench
