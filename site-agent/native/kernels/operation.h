// An operation of our own within TensorFlow, through its C interface: registered with its shapes, and what a kernel sees
// of one call.

#ifndef CONSILIUM_KERNELS_OPERATION_H_
#define CONSILIUM_KERNELS_OPERATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"

namespace consilium {

using Shape = std::vector<std::int64_t>;

// Numbers in all axes but the last, and in the last; one row of one number where there is no axis.
struct Rows {
  std::size_t rows;
  std::size_t columns;

  // One number for each row, or for each column.
  Shape row_shape() const { return {static_cast<std::int64_t>(rows)}; }
  Shape column_shape() const { return {static_cast<std::int64_t>(columns)}; }
};

// One call of a kernel on tensors of float32. The first failure is reported to TensorFlow; everything behind it is null,
// and a kernel then returns without computing.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  bool failed() const { return failed_; }
  Shape shape(int input);
  // Of an input, which lies there until the call ends. A shape given is the one that it must have.
  const float* input(int index);
  const float* input(int index, const Shape& shape);
  // To be written whole. `in_place_of` is an input of this shape, read by nobody else, in whose memory it may lie: ask for
  // the output before that input.
  float* output(int index, const Shape& shape, int in_place_of = -1);
  void fail(const std::string& what);

 private:
  bool checked();
  TF_Tensor* tensor_of(int input);
  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> tensors_;
  bool failed_ = false;
};

Rows rows_of(const Shape& shape);
std::size_t count_of(const Shape& shape);

struct Operation {
  const char* name;
  std::vector<const char*> inputs;
  std::vector<const char*> outputs;
  // Each a float. A kernel gets their values in this order.
  std::vector<const char*> attributes;
  void (*infer)(TF_ShapeInferenceContext*, TF_Status*);
  void* (*create)(TF_OpKernelConstruction*);
  void (*compute)(void*, TF_OpKernelContext*);
};

// Registers it for the processor. @returns what went wrong, or an empty string
std::string register_operation(const Operation& operation);

// For `create`: the values of float attributes, which are given back to `compute`.
void* read_attributes(TF_OpKernelConstruction* construction, const std::vector<const char*>& names);

// For `infer`.
namespace infer {
// Output `index` has the shape of an input.
void same(TF_ShapeInferenceContext* context, int output, int input, TF_Status* status);
// The last axis of an input alone.
void columns(TF_ShapeInferenceContext* context, int output, int input, TF_Status* status);
// One number for each of an input's rows.
void rows(TF_ShapeInferenceContext* context, int output, int input, TF_Status* status);
}  // namespace infer

}  // namespace consilium

#endif  // CONSILIUM_KERNELS_OPERATION_H_
