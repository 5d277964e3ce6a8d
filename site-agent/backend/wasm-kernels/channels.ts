// Concat and its gradient SplitV. The stock kernels copy one run of numbers a call from JavaScript, which for images
// with few channels costs more than a convolution over them.

import { tf } from "../tensors.ts";
import { attribute, inputTensor, isEmpty, type TrainingKernel } from "./kernel-registry.ts";
import { FLOAT_BYTES } from "./products.ts";

const concat: TrainingKernel = {
  name: "Concat",
  compute({ heap, module }, inputs, attributes, stock) {
    const parts = Object.values(inputs).filter((part): part is tf.TensorInfo => part !== undefined);
    const first = parts[0];
    const plain =
      first !== undefined && parts.every(({ dtype }) => dtype === "float32") && !isEmpty(...parts);
    if (!plain) return stock?.() ?? [];
    const axis = tf.util.parseAxisParam(attribute<number>(attributes, "axis"), first.shape)[0] ?? 0;
    const shape = tf.backend_util.computeOutShape(
      parts.map((part) => part.shape),
      axis,
    );
    const output = heap.output(shape);
    const rows = tf.util.sizeFromShape(shape.slice(0, axis));
    const outBytes = FLOAT_BYTES * tf.util.sizeFromShape(shape.slice(axis));
    let to = heap.pointer(output);
    for (const part of parts) {
      const bytes = FLOAT_BYTES * tf.util.sizeFromShape(part.shape.slice(axis));
      module.copy_rows(heap.pointer(part), to, rows, bytes, bytes, outBytes);
      to += bytes;
    }
    return output;
  },
};

const split: TrainingKernel = {
  name: "SplitV",
  compute({ heap, module }, inputs, attributes, stock) {
    const { x } = inputs;
    if (x?.dtype !== "float32" || isEmpty(x)) return stock?.() ?? [];
    const axis = tf.util.parseAxisParam(attribute<number>(attributes, "axis"), x.shape)[0] ?? 0;
    const requested = attribute<number | number[]>(attributes, "numOrSizeSplits");
    const whole = inputTensor(inputs, "x");
    // A copy: the framework's function writes the size of an open part into the list.
    const sizes = tf.backend_util.prepareSplitSize(
      whole,
      Array.isArray(requested) ? [...requested] : requested,
      axis,
    );
    if (sizes.includes(0)) return stock?.() ?? [];
    const rows = tf.util.sizeFromShape(x.shape.slice(0, axis));
    const columnBytes = FLOAT_BYTES * tf.util.sizeFromShape(x.shape.slice(axis + 1));
    const inBytes = columnBytes * (x.shape[axis] ?? 0);
    let from = heap.pointer(x);
    return sizes.map((size) => {
      const output = heap.output(x.shape.map((whole, at) => (at === axis ? size : whole)));
      module.copy_rows(from, heap.pointer(output), rows, size * columnBytes, inBytes, size * columnBytes);
      from += size * columnBytes;
      return output;
    });
  },
};

export const channelKernels: readonly TrainingKernel[] = [concat, split];
