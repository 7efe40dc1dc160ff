#include "reference.h"

#include "output.h"
#include "pictures.h"

namespace splitbench {
namespace {

Result<std::vector<Expected>> expected_of_head(const SafetensorsFile& file) {
  const auto activation = file.tensor("activation");
  if (!activation.ok()) {
    return activation.failure();
  }
  return std::vector<Expected>{{"activation", *activation}};
}

Result<std::vector<Expected>> expected_of_survey(const SafetensorsFile& file) {
  std::vector<Expected> outputs;
  while (true) {
    const std::string name = "activation." + std::to_string(outputs.size());
    const auto activation = file.tensor(name);
    if (!activation.ok()) {
      return outputs.empty() ? Result<std::vector<Expected>>(activation.failure()) : outputs;
    }
    outputs.push_back({name, *activation});
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
  auto outputs = options.survey ? expected_of_survey(*file) : expected_of_head(*file);
  if (!outputs.ok()) {
    return outputs.failure();
  }
  if (!options.tolerances.empty() && options.tolerances.size() != outputs->size()) {
    return Failure{Code::kUsage,
                   path + ": holds " + std::to_string(outputs->size()) + " outputs, the options list " +
                       std::to_string(options.tolerances.size()),
                   "give each list one entry an output"};
  }
  std::vector<float> input(picture->elements());
  to_unit_range(picture->data, input);
  return Reference{std::move(*file), *picture, batch_of_one(picture->shape), std::move(input), std::move(*outputs)};
}

Status run_reference(Head& head, Reference& reference) {
  auto status = head.set_input(reference.input.data());
  return status.ok() ? head.run() : status;
}

Status verify_outputs(Head& head, Reference& reference, const Options& options, std::vector<Output>& outputs) {
  if (auto status = run_reference(head, reference); !status.ok()) {
    return status;
  }
  Status verdict = Done{};
  Document written{{}, {{"picture", reference.picture}}};
  for (std::size_t i = 0; i < reference.outputs.size(); ++i) {
    const auto output = head.output(i);
    if (!output.ok()) {
      return output.failure();
    }
    const Expected& expected = reference.outputs[i];
    const Tolerance tolerance = options.tolerances.empty() ? Tolerance{} : options.tolerances[i];
    const auto verification = verify(*output, expected.activation, tolerance);
    outputs.push_back({output->dtype, output->shape, verification});
    if (verdict.ok() && !verification.passed) {
      verdict = wrong_output(*options.pte + ": " + output_text(i, reference.outputs.size()), *output, expected.activation);
    }
    written.tensors.emplace(expected.name, *output);
  }
  return verdict.ok() && options.write_output ? write_document(*options.write_output, written) : verdict;
}

}  // namespace splitbench
