#include "answer.h"

#include <algorithm>
#include <optional>
#include <string>

namespace splitbench {
namespace {

constexpr std::size_t kMostDigits = 18;  // as many fit in 64 bits, whatever they are

std::optional<std::int64_t> whole_number(const std::string& text) {
  const bool digits = std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits && !text.empty() && text.size() <= kMostDigits ? std::optional<std::int64_t>(std::stoll(text))
                                                               : std::nullopt;
}

Failure damaged(const std::string& what) {
  return {Code::kFrameDamaged, "the answer " + what, "use one version on both sides"};
}

}  // namespace

Result<std::int64_t> decode_time(const Document& answer, std::int64_t most_ns) {
  const auto logits = answer.tensors.find("answer");
  if (logits == answer.tensors.end() || logits->second.dtype != Dtype::kF32) {
    return damaged("holds no F32 tensor 'answer'");
  }
  const auto written = answer.metadata.find("decode_ns");
  const auto told = written == answer.metadata.end() ? std::nullopt : whole_number(written->second);
  if (!told) {
    return damaged("does not tell in 'decode_ns' how long reading the activation took");
  }
  if (*told > most_ns) {
    return damaged("says that reading the activation took " + std::to_string(*told) + " ns, when " +
                   std::to_string(most_ns) + " had passed");
  }
  return *told;
}

}  // namespace splitbench
