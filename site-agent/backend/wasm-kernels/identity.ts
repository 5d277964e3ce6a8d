// Identity, behind which are clones and everything that a gradient keeps. The stock kernel copies the numbers; here the
// clone shares them, as on the framework's other backends, where a tensor's numbers never change either.

import { input, type TrainingKernel } from "./kernel-registry.ts";

export const identity: TrainingKernel = {
  name: "Identity",
  compute({ heap }, inputs, _attributes, stock) {
    const x = input(inputs, "x");
    if (x.dtype === "string") return stock?.() ?? x;
    heap.share(x);
    return { dataId: x.dataId, shape: x.shape, dtype: x.dtype };
  },
};
