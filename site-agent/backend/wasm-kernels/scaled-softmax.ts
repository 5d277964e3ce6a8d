// Softmax over the last axis of scaled scores, as attention needs it, and its gradient: a pass each over what composed
// operations go over three and five times.

import { SCALED_SOFTMAX, SCALED_SOFTMAX_GRADIENT } from "../fused-kernel.ts";
import { tf } from "../tensors.ts";
import { attribute, input, isEmpty, type TrainingKernel } from "./kernel-registry.ts";

/** x [..., C] and a factor > 0 -> softmax(factor * x). */
const scaledSoftmax: TrainingKernel = {
  name: SCALED_SOFTMAX,
  compute({ heap, module }, inputs, attributes) {
    const x = input(inputs, "x");
    const output = heap.output(x.shape);
    if (isEmpty(x)) return output;
    const columns = x.shape.at(-1) ?? 1;
    const rows = tf.util.sizeFromShape(x.shape) / columns;
    const factor = attribute<number>(attributes, "factor");
    module.scaled_softmax(heap.pointer(x), heap.pointer(output), rows, columns, factor);
    return output;
  },
};

/** What it gave, the gradient of that and the factor -> dx. */
const scaledSoftmaxGradient: TrainingKernel = {
  name: SCALED_SOFTMAX_GRADIENT,
  compute({ heap, module }, inputs, attributes) {
    const [y, dy] = [input(inputs, "y"), input(inputs, "dy")];
    const output = heap.output(y.shape);
    if (isEmpty(y)) return output;
    const columns = y.shape.at(-1) ?? 1;
    module.scaled_softmax_gradient(
      heap.pointer(y),
      heap.pointer(dy),
      heap.pointer(output),
      tf.util.sizeFromShape(y.shape) / columns,
      columns,
      attribute(attributes, "factor"),
    );
    return output;
  },
};

export const scaledSoftmaxKernels: readonly TrainingKernel[] = [scaledSoftmax, scaledSoftmaxGradient];
