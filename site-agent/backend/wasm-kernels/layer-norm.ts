// Layer norm over the last axis as one kernel, and its gradients: that of the input, and that of the scale for itself,
// because weights are often frozen. The shift's gradient is a sum over channels.

import { LAYER_NORM, LAYER_NORM_GRADIENT, LAYER_NORM_SCALE_GRADIENT } from "../fused-kernel.ts";
import { tf } from "../tensors.ts";
import { attribute, input, isEmpty, type TrainingKernel, zeros } from "./kernel-registry.ts";
import { FLOAT_BYTES } from "./products.ts";

/** Rows whose products are summed in single precision. */
const RUN_ROWS = 64;

/** x [..., C], gamma [C], beta [C] -> y [..., C], mean [rows], 1 / standard deviation [rows]. */
const layerNorm: TrainingKernel = {
  name: LAYER_NORM,
  compute({ heap, module }, inputs, attributes) {
    const x = input(inputs, "x");
    const { rows, columns } = rowsOf(x);
    const [y, mean, inverse] = [heap.output(x.shape), heap.output([rows]), heap.output([rows])];
    if (isEmpty(x)) return [y, mean, inverse];
    module.layer_norm(
      heap.pointer(x),
      heap.pointer(y),
      heap.pointer(input(inputs, "gamma")),
      heap.pointer(input(inputs, "beta")),
      heap.pointer(mean),
      heap.pointer(inverse),
      rows,
      columns,
      attribute(attributes, "epsilon"),
    );
    return [y, mean, inverse];
  },
};

/** x, gamma, the statistics and dy -> dx. */
const layerNormGradient: TrainingKernel = {
  name: LAYER_NORM_GRADIENT,
  compute({ heap, module }, inputs) {
    const x = input(inputs, "x");
    const { rows, columns } = rowsOf(x);
    const dx = heap.output(x.shape);
    if (isEmpty(x)) return dx;
    module.layer_norm_gradient(
      heap.pointer(x),
      heap.pointer(input(inputs, "dy")),
      heap.pointer(dx),
      heap.pointer(input(inputs, "gamma")),
      heap.pointer(input(inputs, "mean")),
      heap.pointer(input(inputs, "inverse")),
      rows,
      columns,
    );
    return dx;
  },
};

/** x, the statistics and dy -> dgamma [C]. */
const layerNormScaleGradient: TrainingKernel = {
  name: LAYER_NORM_SCALE_GRADIENT,
  compute(context, inputs) {
    const { heap, module } = context;
    const x = input(inputs, "x");
    const { rows, columns } = rowsOf(x);
    if (isEmpty(x)) return zeros(context, [columns]);
    const dgamma = heap.output([columns]);
    const runs = Math.ceil(rows / RUN_ROWS);
    const bytes = FLOAT_BYTES * runs * columns;
    heap.lend({ sums: bytes }, ({ sums }) => {
      module.clear(sums, bytes);
      module.layer_norm_scale_gradient(
        heap.pointer(x),
        heap.pointer(input(inputs, "dy")),
        sums,
        heap.pointer(input(inputs, "mean")),
        heap.pointer(input(inputs, "inverse")),
        rows,
        columns,
      );
      module.column_sums(sums, heap.pointer(dgamma), runs, columns);
    });
    return dgamma;
  },
};

export const layerNormKernels: readonly TrainingKernel[] = [
  layerNorm,
  layerNormGradient,
  layerNormScaleGradient,
];

function rowsOf({ shape }: tf.TensorInfo): { readonly rows: number; readonly columns: number } {
  const columns = shape.at(-1) ?? 1;
  return { rows: tf.util.sizeFromShape(shape) / Math.max(1, columns), columns };
}
