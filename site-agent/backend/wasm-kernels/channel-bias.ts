// Adding a bias to every channel, and summing over everything but the channels, which is its gradient. The stock sum
// transposes the images first.

import { CHANNEL_BIAS, CHANNEL_SUMS } from "../fused-kernel.ts";
import { tf } from "../tensors.ts";
import { input, isEmpty, type TrainingKernel, zeros } from "./kernel-registry.ts";

/** x [..., C], bias [C] -> x + bias. */
const channelBias: TrainingKernel = {
  name: CHANNEL_BIAS,
  compute({ heap, module }, inputs) {
    const [x, bias] = [input(inputs, "x"), input(inputs, "bias")];
    const output = heap.output(x.shape);
    const columns = x.shape.at(-1) ?? 1;
    const rows = tf.util.sizeFromShape(x.shape) / columns;
    if (!isEmpty(x))
      module.add_bias(heap.pointer(x), heap.pointer(output), heap.pointer(bias), rows, columns);
    return output;
  },
};

/** x [..., C] -> the sums [C]. */
const channelSums: TrainingKernel = {
  name: CHANNEL_SUMS,
  compute(context, inputs) {
    const x = input(inputs, "x");
    const columns = x.shape.at(-1) ?? 1;
    if (isEmpty(x)) return zeros(context, [columns]);
    const sums = context.heap.output([columns]);
    const rows = tf.util.sizeFromShape(x.shape) / columns;
    context.module.column_sums(context.heap.pointer(x), context.heap.pointer(sums), rows, columns);
    return sums;
  },
};

export const channelBiasKernels: readonly TrainingKernel[] = [channelBias, channelSums];
