// UnsortedSegmentSum, the gradient of gather, which the stock backend lacks. Ids outside the segments are left out, as
// the framework's other backends do.

import { tf } from "../tensors.ts";
import { attribute, input, type TrainingKernel, zeros } from "./kernel-registry.ts";

export const unsortedSegmentSum: TrainingKernel = {
  name: "UnsortedSegmentSum",
  compute(context, inputs, attributes) {
    const [x, segmentIds] = [input(inputs, "x"), input(inputs, "segmentIds")];
    const count = attribute<number>(attributes, "numSegments");
    const inner = x.shape.slice(segmentIds.shape.length);
    const sums = zeros(context, [count, ...inner]);
    const rowLength = tf.util.sizeFromShape(inner);
    const [from, to, ids] = [
      context.heap.float32(x),
      context.heap.float32(sums),
      context.heap.int32(segmentIds),
    ];
    ids.forEach((id, row) => {
      if (id < 0 || id >= count) return;
      for (let index = 0; index < rowLength; index += 1) {
        const place = id * rowLength + index;
        to[place] = (to[place] ?? 0) + (from[row * rowLength + index] ?? 0);
      }
    });
    return sums;
  },
};
