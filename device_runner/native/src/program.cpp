#include "program.h"

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/core/event_tracer.h>
#include <executorch/runtime/platform/platform.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>

#include "crash.h"

// The wheel exports the thread pool, but ships no header for it (its own threadpool.h declares just this and more).
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  std::size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(std::uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace splitbench {
namespace {

using executorch::aten::ScalarType;
using executorch::extension::Module;
using executorch::runtime::Error;
using executorch::runtime::EValue;

// ExecuTorch explains its errors in a log on standard error. The first explanation since clear() goes into our one line.
class Explanation {
 public:
  static void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    text_[0] = '\0';
  }

  static std::string text() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return text_.data();
  }

  static void keep(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, std::size_t, const char* message,
                   std::size_t length) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (text_[0] == '\0' && (level == kError || level == kFatal)) {
      const std::size_t kept = std::min(length, text_.size() - 1);
      std::memcpy(text_.data(), message, kept);
      text_[kept] = '\0';
    }
  }

 private:
  inline static std::mutex mutex_;
  inline static std::array<char, 200> text_{};
};

const bool kExplanationsKept =
    executorch::runtime::register_pal(executorch::runtime::PalImpl::create(&Explanation::keep, __FILE__));

Failure failure_of(Code code, const std::string& where, Error error, const std::string& remedy) {
  char number[16];
  std::snprintf(number, sizeof number, "0x%02x", static_cast<unsigned>(error));
  const std::string explanation = Explanation::text();
  return {code, where + ": ExecuTorch error " + number + (explanation.empty() ? "" : " (" + explanation + ")"), remedy};
}

Failure load_failure(const std::string& path, Error error) {
  // A backend that is not there has no error of its own, only its explanation.
  const bool backend_missing = Explanation::text().find("is not registered") != std::string::npos;
  if (error == Error::OperatorMissing || backend_missing) {
    return failure_of(Code::kOperatorMissing, path, error, "export the head with this version of ExecuTorch");
  }
  if (error == Error::AccessFailed) {
    return failure_of(Code::kProgramMissing, path, error, "push the head again");
  }
  return failure_of(Code::kProgramDamaged, path, error, "export the head again, then push it again");
}

std::optional<Dtype> dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return Dtype::kF32;
    case ScalarType::Char:
      return Dtype::kI8;
    case ScalarType::Byte:
      return Dtype::kU8;
    default:
      return std::nullopt;
  }
}

template <typename DimOrder>
bool is_row_major(const DimOrder& order) {
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i] != i) {
      return false;
    }
  }
  return true;
}

// A program's own claim about what it takes and gives, held against the picture that it will get.
Status check_program(Module& module, const std::string& path, const Shape& shape, std::size_t outputs) {
  const auto mismatch = [&](const std::string& what) {
    return Failure{Code::kInputMismatch, path + ": " + what, "use the head that was exported for this input size"};
  };
  const auto meta = module.method_meta("forward");
  if (!meta.ok()) {
    return load_failure(path, meta.error());
  }
  if (meta->num_inputs() != 1 || meta->num_outputs() != outputs) {
    return mismatch("takes " + std::to_string(meta->num_inputs()) + " inputs and gives " +
                    std::to_string(meta->num_outputs()) + " outputs, not 1 and " + std::to_string(outputs));
  }
  const auto input = meta->input_tensor_meta(0);
  if (!input.ok()) {
    return mismatch("its input is no tensor");
  }
  const Shape is(input->sizes().begin(), input->sizes().end());
  if (input->scalar_type() != ScalarType::Float || is != shape || !is_row_major(input->dim_order())) {
    return mismatch("its input is " + shape_text(is) + ", the picture F32 " + shape_text(shape));
  }
  return Done{};
}

class ModuleProgram final : public Program {
 public:
  ModuleProgram(std::string path, const Shape& input_shape, Operators* operators)
      : path_(std::move(path)),
        input_sizes_(input_shape.begin(), input_shape.end()),
        module_(path_, Module::LoadMode::File, operators == nullptr ? nullptr : trace_into(*operators)) {}

  Status load(const Shape& input_shape, std::size_t outputs) {
    Explanation::clear();
    if (const Error error = module_.load(executorch::runtime::Program::Verification::InternalConsistency);
        error != Error::Ok) {
      return load_failure(path_, error);
    }
    if (auto status = check_program(module_, path_, input_shape, outputs); !status.ok()) {
      return status;
    }
    const Error error = module_.load_method("forward");
    return error == Error::Ok ? Status(Done{}) : Status(load_failure(path_, error));
  }

  Status set_input(float* values) override {
    Explanation::clear();
    const auto tensor = executorch::extension::from_blob(values, input_sizes_, ScalarType::Float);
    const Error error = module_.set_input(EValue(*tensor), 0);
    return error == Error::Ok ? Status(Done{}) : Status(failure_of(Code::kInputMismatch, path_, error, kExportAgain));
  }

  Status run() override {
    auto outputs = module_.forward();
    if (!outputs.ok()) {
      return failure_of(Code::kExecutionFailed, path_, outputs.error(), kExportAgain);
    }
    outputs_ = std::move(*outputs);
    return Done{};
  }

  Result<TensorView> output(std::size_t number) override {
    const auto wrong = [&](const char* what) {
      return Failure{Code::kExecutionFailed, path_ + ": " + output_text(number, outputs_.size()) + " is " + what,
                     "export a head that ends in one activation"};
    };
    if (number >= outputs_.size() || !outputs_[number].isTensor()) {
      return wrong("no tensor");
    }
    const auto& tensor = outputs_[number].toTensor();
    const auto dtype = dtype_of(tensor.scalar_type());
    if (!dtype) {
      return wrong("neither F32 nor I8 nor U8");
    }
    if (!is_row_major(tensor.dim_order())) {
      return wrong("not row-major");
    }
    if (tensor.numel() == 0) {
      return wrong("empty");
    }
    return TensorView{*dtype, Shape(tensor.sizes().begin(), tensor.sizes().end()),
                      static_cast<const std::uint8_t*>(tensor.const_data_ptr())};
  }

 private:
  static constexpr const char* kExportAgain = "export the head again";

  std::string path_;
  std::vector<executorch::aten::SizesType> input_sizes_;
  Module module_;
  std::vector<EValue> outputs_;
};

}  // namespace

Result<int> set_threads(int threads) {
  auto* pool = executorch::extension::threadpool::get_threadpool();
  if (pool == nullptr) {
    return Failure{Code::kExecutionFailed, "the processor's cores cannot be told",
                   "let /proc/cpuinfo and /sys/devices/system/cpu/{possible,present} be read"};
  }
  if (!pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(threads))) {
    return Failure{Code::kExecutionFailed, "no pool of " + std::to_string(threads) + " threads could be had",
                   "ask for fewer threads"};
  }
  return static_cast<int>(pool->get_thread_count());
}

std::string output_text(std::size_t number, std::size_t outputs) {
  return outputs == 1 ? "its output" : "its output " + std::to_string(number);
}

Result<std::unique_ptr<Program>> Program::load(const std::string& path, const Shape& input_shape, std::size_t outputs,
                                               Operators* operators) {
  set_stage("loading the head", Code::kProgramDamaged);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    return Failure{Code::kProgramMissing, path + ": " + std::strerror(errno), "push the head again"};
  }
  if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) > kMaxFileBytes) {
    return Failure{Code::kProgramDamaged, path + ": no program of " + std::to_string(kMaxFileBytes) + " bytes or less",
                   "push the head again"};
  }
  auto program = std::make_unique<ModuleProgram>(path, input_shape, operators);
  if (auto loaded = program->load(input_shape, outputs); !loaded.ok()) {
    return loaded.failure();
  }
  set_stage("running the head", Code::kExecutionFailed);
  return std::unique_ptr<Program>(std::move(program));
}

}  // namespace splitbench
