// The least that times a head with ExecuTorch: what head_runner's own times are held against.
//   bare_loop PTE THREADS WARMUP ITERATIONS CHANNELS HEIGHT WIDTH  ->  {"run_ns":[...]}
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(std::uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using executorch::extension::Module;
using executorch::runtime::Error;
using executorch::runtime::EValue;

namespace {

std::int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 8) {
    return 2;
  }
  const auto number = [&](int i) { return std::atoi(arguments[i]); };
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(static_cast<std::uint32_t>(number(2)));
  Module module(arguments[1]);
  std::vector<float> picture(static_cast<std::size_t>(number(5)) * number(6) * number(7), 0.5f);
  const auto tensor = executorch::extension::from_blob(picture.data(), {1, number(5), number(6), number(7)});
  std::vector<std::int64_t> samples;
  for (int i = -number(3); i < number(4); ++i) {
    // Outside the clock, as in head_runner: a head may write over its input.
    if (module.set_input(EValue(*tensor), 0) != Error::Ok) {
      return 1;
    }
    const std::int64_t start = now_ns();
    const auto outputs = module.forward();
    const std::int64_t end = now_ns();
    if (!outputs.ok()) {
      return 1;
    }
    if (i >= 0) {
      samples.push_back(end - start);
    }
  }
  std::printf("{\"run_ns\":[");
  for (std::size_t i = 0; i < samples.size(); ++i) {
    std::printf("%s%lld", i == 0 ? "" : ",", static_cast<long long>(samples[i]));
  }
  std::puts("]}");
}
