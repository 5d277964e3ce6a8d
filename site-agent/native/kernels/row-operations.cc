// Operations on numbers and on rows: GELU, layer norm and softmax, each with its gradients.

#include <algorithm>

#include "blocks.h"
#include "loops.h"
#include "operations.h"
#include "workers.h"

namespace consilium {

namespace {

template <int input>
void infer_same(TF_ShapeInferenceContext* context, TF_Status* status) {
  infer::same(context, 0, input, status);
}

void* create(TF_OpKernelConstruction* construction) { return read_attributes(construction, {}); }
void* create_with_epsilon(TF_OpKernelConstruction* construction) {
  return read_attributes(construction, {"epsilon"});
}
void* create_with_factor(TF_OpKernelConstruction* construction) { return read_attributes(construction, {"factor"}); }

void gelu(void*, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  float* y = call.output(0, shape);
  const float* x = call.input(0);
  if (call.failed()) return;
  in_parts(count_of(shape), PART_NUMBERS_MIN, [&](std::size_t first, std::size_t last) {
    loops().gelu(x + first, y + first, last - first);
  });
}

void gelu_gradient(void*, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  float* dx = call.output(0, shape, 1);
  const float* x = call.input(0);
  const float* dy = call.input(1, shape);
  if (call.failed()) return;
  in_parts(count_of(shape), PART_NUMBERS_MIN, [&](std::size_t first, std::size_t last) {
    loops().gelu_gradient(x + first, dy + first, dx + first, last - first);
  });
}

void infer_layer_norm(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
  infer::same(context, 0, 0, status);
  infer::rows(context, 1, 0, status);
  infer::rows(context, 2, 0, status);
}

void layer_norm(void* attributes, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  const Rows size = rows_of(shape);
  const std::size_t rows = size.rows, width = size.columns;
  float* y = call.output(0, shape);
  float* mean = call.output(1, size.row_shape());
  float* inverse = call.output(2, size.row_shape());
  const float* x = call.input(0);
  const float* gamma = call.input(1, size.column_shape());
  const float* beta = call.input(2, size.column_shape());
  if (call.failed()) return;
  const float epsilon = *static_cast<const float*>(attributes);
  in_parts(rows, part_rows(width), [&](std::size_t first, std::size_t last) {
    const std::size_t start = first * width;
    loops().layer_norm(x + start, gamma, beta, epsilon, y + start, mean + first, inverse + first, last - first, width);
  });
}

void layer_norm_gradient(void*, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  const Rows size = rows_of(shape);
  const std::size_t rows = size.rows, width = size.columns;
  float* dx = call.output(0, shape, 4);
  const float* x = call.input(0);
  const float* gamma = call.input(1, size.column_shape());
  const float* mean = call.input(2, size.row_shape());
  const float* inverse = call.input(3, size.row_shape());
  const float* dy = call.input(4, shape);
  if (call.failed()) return;
  in_parts(rows, part_rows(width), [&](std::size_t first, std::size_t last) {
    const std::size_t start = first * width;
    loops().layer_norm_gradient(x + start, gamma, mean + first, inverse + first, dy + start, dx + start, last - first,
                                width);
  });
}

void infer_columns(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
  infer::columns(context, 0, 0, status);
}

void layer_norm_scale_gradient(void*, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  const Rows size = rows_of(shape);
  const std::size_t rows = size.rows, width = size.columns;
  float* dgamma = call.output(0, size.column_shape());
  const float* x = call.input(0);
  const float* mean = call.input(1, size.row_shape());
  const float* inverse = call.input(2, size.row_shape());
  const float* dy = call.input(3, shape);
  if (call.failed()) return;
  // Blocks do not depend on the number of threads, and are added in their order: so sums do not either.
  const Blocks blocks = blocks_of(rows);
  std::vector<double> sums(blocks.count * width, 0.0);
  in_parts(blocks.count, part_rows(blocks.rows * width), [&](std::size_t first, std::size_t last) {
    std::vector<float> run_sums(width);
    for (std::size_t block = first; block < last; block += 1)
      blocks.each_run(block, [&](std::size_t row, std::size_t some) {
        const std::size_t start = row * width;
        std::fill(run_sums.begin(), run_sums.end(), 0.0f);
        loops().layer_norm_scale_gradient(x + start, mean + row, inverse + row, dy + start, run_sums.data(), some,
                                          width);
        for (std::size_t column = 0; column < width; column += 1) sums[block * width + column] += run_sums[column];
      });
  });
  for (std::size_t column = 0; column < width; column += 1) {
    double sum = 0;
    for (std::size_t block = 0; block < blocks.count; block += 1) sum += sums[block * width + column];
    dgamma[column] = static_cast<float>(sum);
  }
}

void scaled_softmax(void* attributes, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  const Rows size = rows_of(shape);
  const std::size_t rows = size.rows, width = size.columns;
  float* y = call.output(0, shape, 0);
  const float* x = call.input(0);
  if (call.failed()) return;
  if (width == 0) return;
  const float factor = *static_cast<const float*>(attributes);
  in_parts(rows, part_rows(width), [&](std::size_t first, std::size_t last) {
    const std::size_t start = first * width;
    loops().scaled_softmax(x + start, factor, y + start, last - first, width);
  });
}

void scaled_softmax_gradient(void* attributes, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  const Rows size = rows_of(shape);
  const std::size_t rows = size.rows, width = size.columns;
  float* dx = call.output(0, shape, 1);
  const float* y = call.input(0);
  const float* dy = call.input(1, shape);
  if (call.failed()) return;
  const float factor = *static_cast<const float*>(attributes);
  in_parts(rows, part_rows(width), [&](std::size_t first, std::size_t last) {
    const std::size_t start = first * width;
    loops().scaled_softmax_gradient(y + start, dy + start, factor, dx + start, last - first, width);
  });
}

}  // namespace

std::vector<Operation> row_operations() {
  return {
      {"ConsiliumGelu", {"x"}, {"y"}, {}, infer_same<0>, create, gelu},
      {"ConsiliumGeluGradient", {"x", "dy"}, {"dx"}, {}, infer_same<0>, create, gelu_gradient},
      {"ConsiliumLayerNorm", {"x", "gamma", "beta"}, {"y", "mean", "inverse"}, {"epsilon"}, infer_layer_norm,
       create_with_epsilon, layer_norm},
      {"ConsiliumLayerNormGradient", {"x", "gamma", "mean", "inverse", "dy"}, {"dx"}, {}, infer_same<0>, create,
       layer_norm_gradient},
      {"ConsiliumLayerNormScaleGradient", {"x", "mean", "inverse", "dy"}, {"dgamma"}, {}, infer_columns, create,
       layer_norm_scale_gradient},
      {"ConsiliumScaledSoftmax", {"x"}, {"y"}, {"factor"}, infer_same<0>, create_with_factor, scaled_softmax},
      {"ConsiliumScaledSoftmaxGradient", {"y", "dy"}, {"dx"}, {"factor"}, infer_same<0>, create_with_factor,
       scaled_softmax_gradient},
  };
}

}  // namespace consilium
