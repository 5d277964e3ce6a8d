#include "operation.h"

namespace consilium {

Call::~Call() {
  for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
  TF_DeleteStatus(status_);
}

void Call::fail(const std::string& what) {
  if (failed_) return;
  failed_ = true;
  TF_SetStatus(status_, TF_INVALID_ARGUMENT, what.c_str());
  TF_OpKernelContext_Failure(context_, status_);
}

// Whether TensorFlow did what it was asked for.
bool Call::checked() {
  if (TF_GetCode(status_) == TF_OK) return true;
  failed_ = true;
  TF_OpKernelContext_Failure(context_, status_);
  return false;
}

TF_Tensor* Call::tensor_of(int input) {
  TF_Tensor* tensor = nullptr;
  TF_GetInput(context_, input, &tensor, status_);
  return checked() ? tensor : nullptr;
}

Shape Call::shape(int input) {
  if (failed_) return {};
  TF_Tensor* tensor = tensor_of(input);
  if (!tensor) return {};
  Shape shape(TF_NumDims(tensor));
  for (std::size_t axis = 0; axis < shape.size(); axis += 1) shape[axis] = TF_Dim(tensor, static_cast<int>(axis));
  // Not kept: an input that somebody holds cannot be written in place of.
  TF_DeleteTensor(tensor);
  return shape;
}

const float* Call::input(int index) {
  if (failed_) return nullptr;
  TF_Tensor* tensor = tensor_of(index);
  if (!tensor) return nullptr;
  tensors_.push_back(tensor);
  return static_cast<const float*>(TF_TensorData(tensor));
}

const float* Call::input(int index, const Shape& wanted) {
  if (!failed_ && shape(index) != wanted) fail("input " + std::to_string(index) + " has another shape");
  return input(index);
}

float* Call::output(int index, const Shape& shape, int in_place_of) {
  if (failed_) return nullptr;
  const int axes = static_cast<int>(shape.size());
  TF_Tensor* tensor = nullptr;
  if (in_place_of >= 0) {
    int taken = -1;
    tensor = TF_ForwardInputOrAllocateOutput(context_, &in_place_of, 1, index, shape.data(), axes, &taken, status_);
  } else {
    const std::size_t bytes = count_of(shape) * sizeof(float);
    tensor = TF_AllocateOutput(context_, index, TF_FLOAT, shape.data(), axes, bytes, status_);
  }
  if (!checked()) return nullptr;
  tensors_.push_back(tensor);
  return static_cast<float*>(TF_TensorData(tensor));
}

std::size_t count_of(const Shape& shape) {
  std::size_t count = 1;
  for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
  return count;
}

Rows rows_of(const Shape& shape) {
  if (shape.empty()) return {1, 1};
  return {count_of(Shape(shape.begin(), shape.end() - 1)), static_cast<std::size_t>(shape.back())};
}

void* read_attributes(TF_OpKernelConstruction* construction, const std::vector<const char*>& names) {
  float* values = new float[names.size()];
  TF_Status* status = TF_NewStatus();
  std::size_t count = 0;
  for (const char* name : names) {
    TF_OpKernelConstruction_GetAttrFloat(construction, name, &values[count], status);
    if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
    count += 1;
  }
  TF_DeleteStatus(status);
  return values;
}

static void give_back(void* values) { delete[] static_cast<float*>(values); }

static std::string message_of(TF_Status* status) {
  const std::string message = TF_GetCode(status) == TF_OK ? "" : TF_Message(status);
  TF_DeleteStatus(status);
  return message;
}

std::string register_operation(const Operation& operation) {
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(operation.name);
  const auto described = [](const char* name) { return std::string(name) + ": float"; };
  for (const char* name : operation.inputs) TF_OpDefinitionBuilderAddInput(definition, described(name).c_str());
  for (const char* name : operation.outputs) TF_OpDefinitionBuilderAddOutput(definition, described(name).c_str());
  for (const char* name : operation.attributes) TF_OpDefinitionBuilderAddAttr(definition, described(name).c_str());
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, operation.infer);
  TF_Status* status = TF_NewStatus();
  TF_RegisterOpDefinition(definition, status);
  if (TF_GetCode(status) == TF_OK) {
    TF_KernelBuilder* kernel =
        TF_NewKernelBuilder(operation.name, "CPU", operation.create, operation.compute, give_back);
    TF_RegisterKernelBuilder(operation.name, kernel, status);
  }
  return message_of(status);
}

namespace infer {

void same(TF_ShapeInferenceContext* context, int output, int input, TF_Status* status) {
  TF_ShapeHandle* shape = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, input, shape, status);
  if (TF_GetCode(status) == TF_OK) TF_ShapeInferenceContextSetOutput(context, output, shape, status);
  TF_DeleteShapeHandle(shape);
}

void columns(TF_ShapeInferenceContext* context, int output, int input, TF_Status* status) {
  TF_ShapeHandle* shape = TF_NewShapeHandle();
  TF_ShapeHandle* last = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, input, shape, status);
  if (TF_GetCode(status) == TF_OK && TF_ShapeInferenceContextRankKnown(context, shape)) {
    const std::int64_t axes = TF_ShapeInferenceContextRank(context, shape);
    TF_ShapeInferenceContextSubshape(context, shape, axes - 1, axes, last, status);
    if (TF_GetCode(status) == TF_OK) TF_ShapeInferenceContextSetOutput(context, output, last, status);
  }
  TF_DeleteShapeHandle(last);
  TF_DeleteShapeHandle(shape);
}

void rows(TF_ShapeInferenceContext* context, int output, int input, TF_Status* status) {
  TF_ShapeHandle* shape = TF_NewShapeHandle();
  TF_DimensionHandle* dimension = TF_NewDimensionHandle();
  TF_ShapeInferenceContextGetInput(context, input, shape, status);
  bool is_known = TF_GetCode(status) == TF_OK && TF_ShapeInferenceContextRankKnown(context, shape);
  std::size_t count = 1;
  const std::int64_t axes = is_known ? TF_ShapeInferenceContextRank(context, shape) : 0;
  for (std::int64_t axis = 0; axis + 1 < axes && is_known; axis += 1) {
    TF_ShapeInferenceContextDim(context, shape, axis, dimension);
    is_known = TF_DimensionHandleValueKnown(dimension);
    if (is_known) count *= static_cast<std::size_t>(TF_DimensionHandleValue(dimension));
  }
  if (is_known) {
    TF_ShapeHandle* vector = TF_ShapeInferenceContextVectorFromSize(context, count);
    TF_ShapeInferenceContextSetOutput(context, output, vector, status);
    TF_DeleteShapeHandle(vector);
  }
  TF_DeleteDimensionHandle(dimension);
  TF_DeleteShapeHandle(shape);
}

}  // namespace infer

}  // namespace consilium
