#include "reference.h"

#include "output.h"
#include "pictures.h"

namespace splitbench {
namespace {

std::string activation_name(std::size_t number) { return "activation." + std::to_string(number); }

Result<std::vector<TensorView>> expected_outputs(const SafetensorsFile& file) {
  std::vector<TensorView> outputs;
  while (true) {
    const auto activation = file.tensor(activation_name(outputs.size()));
    if (!activation.ok()) {
      return outputs.empty() ? Result<std::vector<TensorView>>(activation.failure()) : outputs;
    }
    outputs.push_back(*activation);
  }
}

std::string described(const TensorView& tensor) {
  return std::string(dtype_name(tensor.dtype)) + " " + shape_text(tensor.shape);
}

Failure wrong_output(const std::string& output, const TensorView& is, const TensorView& should) {
  return {Code::kVerificationFailed,
          output + " " + described(is) + " is not the reference " + described(should) + " within the tolerance",
          "check that head and reference come from one export"};
}

}  // namespace

Result<Reference> read_reference(const Options& options) {
  const std::string& path = *options.reference;
  auto file = SafetensorsFile::read(path);
  if (!file.ok()) {
    return file.failure();
  }
  const auto picture = file->tensor("picture", Dtype::kU8, 3);
  if (!picture.ok()) {
    return picture.failure();
  }
  auto outputs = expected_outputs(*file);
  if (!outputs.ok()) {
    return outputs.failure();
  }
  if (!options.tolerances.empty() && options.tolerances.size() != outputs->size()) {
    return Failure{Code::kUsage,
                   path + ": holds " + std::to_string(outputs->size()) + " outputs, the options list " +
                       std::to_string(options.tolerances.size()),
                   "give each list one entry an output"};
  }
  if (options.power && outputs->size() != 1) {
    return Failure{Code::kUsage, path + ": holds " + std::to_string(outputs->size()) + " outputs, --power is for one",
                   "leave --power out: what several outputs take together tells of none"};
  }
  std::vector<float> input(picture->elements());
  to_unit_range(picture->data, input);
  return Reference{std::move(*file), *picture, batch_of_one(picture->shape), std::move(input), std::move(*outputs)};
}

Status run_reference(Program& program, Reference& reference) {
  auto status = program.set_input(reference.input.data());
  return status.ok() ? program.run() : status;
}

Status verify_outputs(Program& program, Reference& reference, const Options& options, std::vector<Output>& outputs) {
  if (auto status = run_reference(program, reference); !status.ok()) {
    return status;
  }
  Status verdict = Done{};
  Document written{{}, {{"picture", reference.picture}}};
  for (std::size_t i = 0; i < reference.outputs.size(); ++i) {
    const auto output = program.output(i);
    if (!output.ok()) {
      return output.failure();
    }
    const TensorView& expected = reference.outputs[i];
    const Tolerance tolerance = options.tolerances.empty() ? Tolerance{} : options.tolerances[i];
    const auto verification = verify(*output, expected, tolerance);
    outputs.push_back({output->dtype, output->shape, verification});
    if (verdict.ok() && !verification.passed) {
      verdict = wrong_output(*options.pte + ": " + output_text(i, reference.outputs.size()), *output, expected);
    }
    written.tensors.emplace(activation_name(i), *output);
  }
  return verdict.ok() && options.write_output ? write_document(*options.write_output, written) : verdict;
}

}  // namespace splitbench
